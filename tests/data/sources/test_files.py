"""Files as tasks and as prompts, and every mistake told with file and line."""

from __future__ import annotations

import gzip
import io
import json
import sys
import types

import pytest

from mtm.data import registry
from mtm.data.provider import TaskSplit
from mtm.data.sources import files
from mtm.errors import UserError
from tests.data import tiny


def texts(name, split="train"):
  """The examples of a registered task, as SeqIO gives them, ids decoded."""
  vocabulary = tiny.vocabulary()
  found = TaskSplit(registry.find(name), split).examples(tuple(registry.find(name).output_features))
  for example in found:
    assert all(ids[-1] == vocabulary.eos_id for ids in example.values())
    yield {key: vocabulary.decode(ids) for key, ids in example.items()}


def write(path, *rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_a_jsonl_file_is_a_task_of_inputs_and_targets(tmp_path):
  train = write(tmp_path / "a.jsonl", {"q": "1 + 1", "a": 2, "id": 7}, {"q": "ja\n?", "a": "nein"})
  more = tmp_path / "b.jsonl.gz"
  more.write_bytes(gzip.compress(b'\n{"q": "", "a": 0.5}\n'))
  files.jsonl_task(
    "files_jsonl",
    {"train": [train, more], "validation": str(train)},
    inputs="q",
    targets="a",
    vocabulary=tiny.vocabulary(),
  )
  first = [
    {"inputs": "1 + 1", "targets": "2"},
    {"inputs": "ja\n?", "targets": "nein"},
  ]
  assert list(texts("files_jsonl")) == [*first, {"inputs": "", "targets": "0.5"}]
  assert list(texts("files_jsonl", "validation")) == first


def test_a_big_file_is_streamed_alike(tmp_path, monkeypatch):
  train = write(tmp_path / "a.jsonl", *({"targets": str(i)} for i in range(9)))
  files.jsonl_task("files_big", {"train": train}, vocabulary=tiny.vocabulary())
  held = list(texts("files_big"))
  monkeypatch.setattr(files, "HELD_BYTES", 0)
  assert list(texts("files_big")) == held
  write(train, {"targets": "a"}, {"target": "b"})
  with pytest.raises(UserError, match=r"a.jsonl:2: no field 'targets'; did you mean 'target'\?$"):
    list(texts("files_big"))


def test_a_csv_file_is_a_task(tmp_path):
  path = tmp_path / "a.csv"
  path.write_text('id;q;a\n1;"two; three";x\n\n2;"a ""b""\nc";y\n')
  files.csv_task(
    "files_csv",
    {"train": path},
    inputs="q",
    targets="a",
    delimiter=";",
    vocabulary=tiny.vocabulary(),
  )
  assert list(texts("files_csv")) == [
    {"inputs": "two; three", "targets": "x"},
    {"inputs": 'a "b"\nc', "targets": "y"},
  ]


@pytest.mark.parametrize(
  ("split", "expected"),
  [
    (None, ["one", "two", " three"]),
    (files.paragraphs, ["one\ntwo", " three"]),
    (files.whole, ["one\ntwo\n\n \n three\n"]),
  ],
)
def test_a_text_file_is_a_task_of_lines_paragraphs_or_itself(tmp_path, split, expected):
  path = tmp_path / "a.txt"
  path.write_text("one\ntwo\n\n \n three\n")
  files.text_task("files_text", {"train": path}, split=split, vocabulary=tiny.vocabulary())
  assert [row["targets"] for row in texts("files_text")] == expected


def test_a_vocabulary_may_be_a_path_or_seqios_or_the_default(tmp_path):
  path = write(tmp_path / "a.jsonl", {"targets": "x"})
  for vocabulary in (tiny.vocabulary().path, tiny.vocabulary(0).to_seqio()):
    files.jsonl_task("files_vocabulary", {"train": path}, vocabulary=vocabulary)
    feature = registry.find("files_vocabulary").output_features["targets"]
    assert feature.vocabulary.vocab_size == 400
  files.jsonl_task("files_vocabulary", {"train": path})
  feature = registry.find("files_vocabulary").output_features["targets"]
  assert feature.vocabulary == registry.find("stdlib_code").output_features["targets"].vocabulary


def test_ones_own_task_may_be_registered_again_but_no_other(tmp_path):
  one, two = (write(tmp_path / f"{n}.jsonl", {"targets": n}) for n in ("one", "two"))
  for path in (one, two):
    files.jsonl_task("files_again", {"train": path}, vocabulary=tiny.vocabulary())
  assert list(texts("files_again")) == [{"targets": "two"}]
  registry.register()
  with pytest.raises(UserError, match="'lm1b' is registered already: choose another name"):
    files.jsonl_task("lm1b", {"train": one})
  with pytest.raises(UserError, match="task 'bad name!'"):
    files.jsonl_task("bad name!", {"train": one}, vocabulary=tiny.vocabulary())
  with pytest.raises(UserError, match="has no files"):
    files.jsonl_task("files_none", {})


def test_metrics_reach_the_task(tmp_path):
  def exact(targets, predictions):
    return {"exact": 1.0}

  path = write(tmp_path / "a.jsonl", {"targets": "x"})
  files.jsonl_task("files_metric", {"train": path}, metrics=[exact])
  assert list(registry.find("files_metric").metric_fns) == [exact]


@pytest.mark.parametrize(
  ("content", "told"),
  [
    ('{"q": "x"}\n{"q": \n', r"a.jsonl:2: not JSON \(Expecting value, column \d+\); mend"),
    ('{"q": "x"}\n["q"]\n', "a.jsonl:2: a JSON list, not an object"),
    ('{"Q": "x"}\n', r"a.jsonl:1: no field 'q'; choose one of: Q"),
    ('{"q": ["x"]}\n', r"a.jsonl:1: field 'q' is \[\"x\"\], not a text"),
    ('{"q": null}\n', "a.jsonl:1: field 'q' is null, not a text"),
    (b'{"q": "\xff"}\n', "a.jsonl:1: byte 7 of the file is 0xff"),
    ("\n\n", "a.jsonl: no examples in it for the split 'train' of task 'files_bad'"),
    ("", "a.jsonl: no examples in it"),
  ],
)
def test_a_bad_jsonl_file_is_told(tmp_path, content, told):
  path = tmp_path / "a.jsonl"
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  files.jsonl_task("files_bad", {"train": path}, targets="q", vocabulary=tiny.vocabulary())
  with pytest.raises(UserError, match=told):
    list(texts("files_bad"))


@pytest.mark.parametrize(
  ("content", "told"),
  [
    ("question,answer\nx,y\n", r"a.csv:1: no column 'questions'; did you mean 'question'\?"),
    ("questions,a\nx,y\nx,y,z\n", "a.csv:3: 3 cells where the header has 2"),
    ('questions,a\n"x,y\n', "a.csv:2: not CSV"),
    ("questions,a\n", "no examples"),
    ("", "no examples"),
  ],
)
def test_a_bad_csv_file_is_told(tmp_path, content, told):
  path = tmp_path / "a.csv"
  path.write_text(content)
  files.csv_task(
    "files_bad_csv", {"train": path}, targets="questions", vocabulary=tiny.vocabulary()
  )
  with pytest.raises(UserError, match=told):
    list(texts("files_bad_csv"))


def test_a_missing_file_stops_only_its_own_task(tmp_path):
  write(tmp_path / "train.jsonl", {"targets": "x"})
  files.jsonl_task(
    "files_missing", {"train": tmp_path / "tran.jsonl"}, vocabulary=tiny.vocabulary()
  )
  with pytest.raises(UserError, match=r"tran.jsonl: no such file; did you mean 'train.jsonl'\?"):
    list(texts("files_missing"))


def test_prompts_of_jsonl_keep_their_other_fields(tmp_path):
  path = write(tmp_path / "a.jsonl", {"id": 3, "inputs": "x"}, {"inputs": 5})
  assert list(files.read_prompts(path)) == [{"id": 3, "inputs": "x"}, {"inputs": "5"}]
  with pytest.raises(UserError, match=r"a.jsonl:1: no field 'input'; did you mean 'inputs'\?"):
    list(files.read_prompts(path, "input"))


def test_prompts_of_text_are_lines(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text('{"x\n\n def f():\n')
  assert list(files.read_prompts(path, "p")) == [{"p": '{"x'}, {"p": " def f():"}]


@pytest.mark.parametrize(
  ("given", "expected"),
  [
    (b"a\n\n b", [{"inputs": "a"}, {"inputs": " b"}]),
    (b'{"inputs": "a"}\n{"inputs": "b", "n": 1}', [{"inputs": "a"}, {"inputs": "b", "n": 1}]),
  ],
)
def test_prompts_of_standard_input_are_lines_or_objects(monkeypatch, given, expected):
  monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(given)))
  assert list(files.read_prompts("-")) == expected


def test_no_prompts_are_told(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text("\n")
  with pytest.raises(UserError, match="no prompts in it"):
    list(files.read_prompts(path))
