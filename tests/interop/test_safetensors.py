"""Safetensors in one file and in several, whole and damaged."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.interop import safetensors
from mtm.interop.safetensors import INDEX, ONE, Renamed, Safetensors, save

TENSORS = {
  "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
  "b": np.array([1.5, -2], ml_dtypes.bfloat16),
  "head": np.zeros(3, np.float16),
}


def same(folder: Path) -> None:
  source = Safetensors(folder)
  assert source.names() == set(TENSORS)
  for name, values in TENSORS.items():
    found = source.get(name)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_one_file_comes_back(tmp_path: Path) -> None:
  assert save(tmp_path, TENSORS.items()) == 11
  assert [p.name for p in tmp_path.iterdir()] == [ONE]
  same(tmp_path)


def test_several_files_come_back_with_their_index(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(safetensors, "SHARD_BYTES", 8)
  save(tmp_path, TENSORS.items())
  names = sorted(p.name for p in tmp_path.iterdir())
  assert names == [*(f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)), INDEX]
  same(tmp_path)
  (tmp_path / names[1]).unlink()
  with pytest.raises(UserError, match="has no model-00002-of-00003.safetensors"):
    Safetensors(tmp_path)


def test_a_truncated_file_is_told(tmp_path: Path) -> None:
  save(tmp_path, TENSORS.items())
  (tmp_path / ONE).write_bytes((tmp_path / ONE).read_bytes()[:-4])
  with pytest.raises(UserError, match="is damaged or no safetensors file"):
    Safetensors(tmp_path)


def test_other_weights_are_named(tmp_path: Path) -> None:
  (tmp_path / "pytorch_model.bin").touch()
  with pytest.raises(UserError, match="it has pytorch_model.bin: save it as safetensors first"):
    Safetensors(tmp_path)


def test_tensors_under_other_names(tmp_path: Path) -> None:
  save(tmp_path, TENSORS.items())
  source = Renamed(Safetensors(tmp_path), {"model.a.weight": "a.weight"})
  assert source.names() == {"model.a.weight"}
  np.testing.assert_array_equal(source.get("model.a.weight"), TENSORS["a.weight"])


def test_a_full_header_begins_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  from safetensors.numpy import load_file

  monkeypatch.setattr(safetensors, "HEADER_BYTES", 192)
  save(tmp_path, TENSORS.items())
  assert len(list(tmp_path.glob("model-*.safetensors"))) == 2
  same(tmp_path)
  found: dict[str, np.ndarray] = {}
  for file in tmp_path.glob("model-*.safetensors"):
    found |= load_file(file)
  assert found.keys() == TENSORS.keys()


def test_a_scalar_and_nothing_come_back(tmp_path: Path) -> None:
  save(tmp_path, [("one", np.float32(2).reshape(())), ("none", np.zeros((0, 3), np.float32))])
  source = Safetensors(tmp_path)
  assert source.get("one").shape == () and source.get("none").shape == (0, 3)
