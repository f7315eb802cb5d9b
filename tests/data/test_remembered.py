"""Data sets that are remembered: the same batches without SeqIO, and never those of other data."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest

from mtm.data import registry, remembered
from mtm.data._fingerprint import Seen
from mtm.data.pipeline import Dataset
from mtm.data.remembered import Remembered
from mtm.data.sources.files import text_task
from mtm.data.vocabulary import Bytes
from mtm.objectives.causal_lm import CausalLM
from mtm.objectives.seq2seq import Seq2Seq
from tests.data.toy import add_task, documents

LENGTHS = {"inputs": 24, "targets": 24}
DATA = Dataset("toy_a", LENGTHS, batch_size=4, remember=True)


@pytest.fixture(autouse=True)
def ours(tasks: None, monkeypatch: pytest.MonkeyPatch) -> None:
  """The toy tasks pass for mtm's own."""
  monkeypatch.setattr(registry, "ours_alone", lambda: True)
  monkeypatch.setattr(registry, "is_ours", lambda name: True)
  add_task("toy_a", documents(20, 3, 9), documents(20, 3, 9, 1))


def fresh(data: Dataset = DATA) -> Dataset:
  """As another process has it."""
  return dataclasses.replace(data)


def first(data: Dataset, objective: object = Seq2Seq()) -> dict[str, np.ndarray]:
  batches = data.batches(objective)
  try:
    return next(batches)
  finally:
    batches.close()


def remembers(data: Dataset = DATA) -> bool:
  return all(isinstance(split, Remembered) for split in fresh(data)._splits())


def test_the_second_time_batches_are_the_same_and_nothing_is_looked_up(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  wanted, state = first(fresh()), fresh().batches(Seq2Seq()).state()
  monkeypatch.setattr(registry, "find", lambda *_: pytest.fail("looked up"))
  again = fresh()
  got = first(again)
  assert got.keys() == wanted.keys()
  for name in wanted:
    np.testing.assert_array_equal(got[name], wanted[name])
  assert again.batches(Seq2Seq()).state() == state
  assert again.vocabulary().vocab_size == 300
  first(fresh(), CausalLM())  # another objective reads the same record
  assert len(list(again._splits()[0].examples(("targets",)))) == 20


def test_facts_are_those_of_the_task() -> None:
  live = fresh()._splits()[0].tokens(("inputs", "targets"))
  first(fresh())
  known = fresh()._splits()[0].tokens(("inputs", "targets"))
  assert dataclasses.replace(known, word_starts=live.word_starts) == live


def test_what_was_not_asked_to_be_remembered_is_not() -> None:
  for other in ({"remember": False}, {"use_cached": False}, {"module": "tests.e2e.my_tasks"}):
    data = dataclasses.replace(DATA, **other)
    assert not data._memorable()
  first(dataclasses.replace(DATA, remember=False))
  assert not remembers()


def test_tasks_of_others_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(registry, "is_ours", lambda name: name != "toy_a")
  first(fresh())
  assert not remembers()


def test_other_lengths_are_another_record() -> None:
  first(fresh())
  assert remembers()
  assert not remembers(dataclasses.replace(DATA, task_feature_lengths={"inputs": 8, "targets": 8}))


def test_a_file_that_changed_ends_it(tmp_path: pathlib.Path) -> None:
  file = tmp_path / "train.txt"
  file.write_text("one\ntwo\n")
  text_task("toy_text", {"train": file}, vocabulary=Bytes())
  data = Dataset("toy_text", {"targets": 24}, batch_size=1, remember=True, shuffle=False)
  before = first(fresh(data), CausalLM())
  assert remembers(data)
  file.write_text("one\nthree\n")
  assert not remembers(data)
  after = first(fresh(data), CausalLM())
  assert not np.array_equal(before["decoder_target_tokens"], after["decoder_target_tokens"])
  assert remembers(data)  # of the file as it is now


def test_a_record_that_holds_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
  data = fresh()
  first(data)
  monkeypatch.setattr(remembered, "Seen", lambda *given: Seen(*given) if given else pytest.fail())
  first(data)  # as the next evaluation of a run does


@pytest.mark.parametrize("damage", ["tokens", "record", "vocabulary"])
def test_what_is_damaged_is_made_anew(damage: str) -> None:
  wanted = first(fresh())
  (place,) = [p for p in (fresh()._record.parent.parent / "tokens").iterdir()]
  folder = fresh()._record
  file = {
    "tokens": place / "targets.ids",
    "record": folder / "record.json",
    "vocabulary": folder / "vocabularies" / "0" / "vocabulary.json",
  }[damage]
  pathlib.Path(file).write_text("{")
  assert not remembers()
  got = first(fresh())
  for name in wanted:
    np.testing.assert_array_equal(got[name], wanted[name])
  assert remembers()


def test_a_changed_environment_is_another_record(monkeypatch: pytest.MonkeyPatch) -> None:
  before = remembered.folder_of("toy_a", "train", LENGTHS)
  assert remembered.folder_of("toy_a", "train", LENGTHS) == before
  monkeypatch.setenv("TFDS_DATA_DIR", "/elsewhere")
  assert remembered.folder_of("toy_a", "train", LENGTHS) != before


def test_a_disk_that_takes_no_record_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
  def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(remembered.tempfile, "TemporaryDirectory", full)
  assert first(fresh())
  assert not remembers()
