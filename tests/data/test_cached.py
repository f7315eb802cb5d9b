from __future__ import annotations

import errno

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtm.data import cached
from mtm.data.cached import TokenCache, build, folder_of
from mtm.errors import UserError

DOCUMENTS = [[5, 6, 7], [], [8], [9, 300]]


def examples(documents=DOCUMENTS):
  return [{"targets": np.array(ids, np.int32)} for ids in documents]


@given(st.lists(st.lists(st.integers(0, 69_999), max_size=5), max_size=20), st.booleans())
def test_examples_come_back(tmp_path_factory, documents, wide):
  if not wide:
    documents = [[i % 60_000 for i in ids] for ids in documents]
  folder = tmp_path_factory.mktemp("cache") / "made"
  cache = build(folder, examples(documents), {"targets": 70_000 if wide else 60_000})
  assert [cache.example(i)["targets"].tolist() for i in range(len(cache))] == documents
  assert cache.ids["targets"].dtype == (np.int32 if wide else np.uint16)
  assert all(cache.example(i)["targets"].dtype == np.int32 for i in range(len(cache)))
  assert TokenCache.open(folder).digest == cache.digest


def test_features_are_kept_apart(tmp_path):
  both = [
    {"inputs": np.array([1, 2]), "targets": np.array([3])},
    {"inputs": np.array([4]), "targets": np.array([], int)},
  ]
  cache = build(tmp_path / "c", both, {"inputs": 9, "targets": 9})
  assert [{k: v.tolist() for k, v in cache.example(i).items()} for i in range(2)] == [
    {"inputs": [1, 2], "targets": [3]},
    {"inputs": [4], "targets": []},
  ]


def test_much_is_written_in_parts(tmp_path, monkeypatch):
  monkeypatch.setattr(cached, "FLUSH", 3)
  cache = build(tmp_path / "c", examples(), {"targets": 400})
  assert [cache.example(i)["targets"].tolist() for i in range(4)] == DOCUMENTS


def test_the_digest_is_of_the_contents(tmp_path):
  def digest(documents):
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    return build(folder, examples(documents), {"targets": 400}).digest

  assert digest([[5, 6], [7]]) == digest([[5, 6], [7]])
  assert len({digest(d) for d in ([[5, 6], [7]], [[5], [6, 7]], [[5, 6], [8]])}) == 3


@pytest.mark.parametrize("name", ["meta.json", "targets.ids", "targets.ends"])
@pytest.mark.parametrize("harm", ["cut", "delete", "grow"])
def test_a_damaged_cache_is_none_and_is_replaced(tmp_path, name, harm):
  folder = tmp_path / "c"
  build(folder, examples(), {"targets": 400})
  file = folder / name
  if harm == "delete":
    file.unlink()
  else:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] if harm == "cut" else data + b"12345678")
  assert TokenCache.open(folder) is None
  again = build(folder, examples(), {"targets": 400})
  assert [again.example(i)["targets"].tolist() for i in range(4)] == DOCUMENTS


def test_an_interrupted_build_leaves_nothing(tmp_path):
  def broken():
    yield from examples()
    raise UserError("the source broke")

  with pytest.raises(UserError, match="the source broke"):
    build(tmp_path / "c", broken(), {"targets": 400})
  assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_with_the_way_out(tmp_path, monkeypatch):
  def full(self, file, values):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(cached._Writer, "_put", full)
  with pytest.raises(UserError, match="No space left on device; free some space, set MTM_CACHE"):
    build(tmp_path / "c", examples(), {"targets": 400})
  assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot write the token cache"):
    build(tmp_path / "file" / "c", examples(), {"targets": 400})


def test_an_id_outside_the_vocabulary_is_told(tmp_path):
  with pytest.raises(UserError, match="outside its vocabulary of 300"):
    build(tmp_path / "c", examples(), {"targets": 300})


def test_of_two_builders_the_first_wins(tmp_path):
  def slow():
    build(tmp_path / "c", examples(), {"targets": 400})  # another process, as quick
    yield from examples()

  cache = build(tmp_path / "c", slow(), {"targets": 400})
  assert len(cache) == 4
  assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_names_are_safe_file_names(monkeypatch, tmp_path):
  monkeypatch.setenv("MTM_CACHE", str(tmp_path))
  folder = folder_of("glue/x", "train[:10%]", "abc")
  assert folder.parent == tmp_path / "tokens" and folder.name.endswith("-abc")
