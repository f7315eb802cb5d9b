"""Examples of an inference: the same ids whether they come from a task, a file or a pipe."""

from __future__ import annotations

import io
import json
import types

import numpy as np
import pytest

from mtm.data.vocabulary import Bytes, Numbers
from mtm.errors import UserError
from mtm.programs.examples import FromFile, FromTask

VOCABULARY = Bytes(0)


def ids(text):
  """ByT5's ids, on paper: byte b is b + 3."""
  return [byte + 3 for byte in text.encode()]


class TestFromFile:
  @pytest.fixture
  def path(self, tmp_path):
    file = tmp_path / "examples.jsonl"
    rows = [{"inputs": "ab", "targets": "c", "id": 7}, {"inputs": "", "id": 8}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file

  @pytest.mark.parametrize(("encoder", "end"), [(False, []), (True, [1])])
  def test_an_encoder_reads_the_end_of_its_inputs_and_a_decoder_goes_on(self, path, encoder, end):
    found = list(FromFile(str(path)).examples(VOCABULARY, encoder))
    assert found == [
      {
        "inputs": "ab", "inputs_ids": [*ids("ab"), *end], "id": 7,
        "targets": "c", "targets_ids": [*ids("c"), 1],
      },
      {"inputs": "", "inputs_ids": end, "id": 8},
    ]  # fmt: skip

  def test_it_reads_the_same_at_every_call(self, path):
    source = FromFile(str(path))
    assert list(source.examples(VOCABULARY, True)) == list(source.examples(VOCABULARY, True))

  def test_a_vocabulary_without_an_end_ends_nothing(self, tmp_path):
    path = tmp_path / "numbers.jsonl"
    path.write_text('{"inputs": "3 4", "targets": "5"}\n')
    (row,) = FromFile(str(path)).examples(Numbers(9), True)
    assert (row["inputs_ids"], row["targets_ids"]) == ([3, 4], [5])

  def test_the_input_may_have_another_name_and_lines_of_text_have_none(self, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"q": "ab", "inputs": "no"}\n')
    (tmp_path / "q.txt").write_text("ab\n\n c\n")
    (row,) = FromFile(str(tmp_path / "q.jsonl"), "q").examples(VOCABULARY, False)
    assert row == {"q": "ab", "inputs": "no", "inputs_ids": ids("ab")}
    rows = list(FromFile(str(tmp_path / "q.txt")).examples(VOCABULARY, False))
    assert [row["inputs_ids"] for row in rows] == [ids("ab"), ids(" c")]

  def test_standard_input_is_a_file_too(self, monkeypatch):
    stream = types.SimpleNamespace(buffer=io.BytesIO(b'{"inputs": "ab", "targets": "c"}\n'))
    monkeypatch.setattr("sys.stdin", stream)
    (row,) = FromFile("-").examples(VOCABULARY, False)
    assert (row["inputs_ids"], row["targets_ids"]) == (ids("ab"), [*ids("c"), 1])

  def test_targets_that_are_numbers_are_text_and_others_are_told_with_their_line(self, tmp_path):
    path = tmp_path / "stsb.jsonl"
    path.write_text('{"inputs": "a", "targets": 2.5}\n{"inputs": "a", "targets": ["b"]}\n')
    found = FromFile(str(path)).examples(VOCABULARY, False)
    assert next(found)["targets_ids"] == [*ids("2.5"), 1]
    with pytest.raises(UserError, match=r"stsb.jsonl:2: field 'targets' is \[\"b\"\], not a text"):
      next(found)


class Task:
  """What `FromTask` asks of a `mtm.data.pipeline.Dataset`."""

  def __init__(self, *rows):
    self.rows = rows

  def examples(self, limit):
    return iter(self.rows[:limit])


class TestFromTask:
  def test_ids_are_the_tasks_and_text_is_what_it_was_before_tokens(self):
    row = {
      "inputs": np.asarray([*ids("ab"), 1], np.int32), "inputs_pretokenized": "Ab",
      "targets": np.asarray([*ids("c"), 1], np.int32), "targets_pretokenized": "C", "weight": 3.0,
    }  # fmt: skip
    (found,) = FromTask(Task(row)).examples(VOCABULARY, True)
    assert found == {
      "inputs": "Ab", "inputs_ids": [*ids("ab"), 1], "targets": "C", "targets_ids": [*ids("c"), 1]
    }  # fmt: skip
    assert json.loads(json.dumps(found)) == found

  def test_text_that_the_task_does_not_keep_is_decoded(self):
    rows = ({"inputs": np.asarray([*ids("ab"), 1]), "targets": np.asarray([*ids("c"), 1])},)
    (found,) = FromTask(Task(*rows)).examples(VOCABULARY, False)
    assert (found["inputs"], found["targets"]) == ("ab", "c")

  def test_a_task_without_inputs_begins_from_nothing(self):
    (found,) = FromTask(Task({"targets": np.asarray(ids("c"))})).examples(VOCABULARY, False)
    assert (found["inputs"], found["inputs_ids"]) == ("", [])
    assert found["targets_ids"] == ids("c")

  def test_examples_may_be_limited(self):
    rows = [{"inputs": np.asarray(ids(text))} for text in "abc"]
    for limit, expected in ((2, ["a", "b"]), (None, ["a", "b", "c"])):
      found = FromTask(Task(*rows), limit).examples(VOCABULARY, False)
      assert [row["inputs"] for row in found] == expected
