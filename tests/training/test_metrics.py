"""`metrics.jsonl`: full precision, whole lines only, no step told twice."""

from __future__ import annotations

import errno
import json
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtm.errors import UserError
from mtm.training.metrics import MetricsWriter, read


@pytest.fixture
def writer(tmp_path):
  with MetricsWriter(tmp_path, tensorboard=False) as made:
    yield made


def lines(writer):
  return writer.path.read_text().splitlines()


def test_a_line_is_one_json_object_that_begins_with_step_and_split(writer):
  writer.write(12, "train", {"loss": 2.5, "tokens": 7})
  assert lines(writer) == ['{"step": 12, "split": "train", "loss": 2.5, "tokens": 7}']


@settings(max_examples=50, deadline=None)
@given(value=st.floats(allow_nan=False))
def test_every_float_comes_back_as_itself(value, tmp_path_factory):
  model_dir = tmp_path_factory.mktemp("metrics")
  with MetricsWriter(model_dir, tensorboard=False) as writer:
    writer.write(1, "train", {"loss": value})
  got = read(model_dir)[0]["loss"]
  assert got == value and math.copysign(1, got) == math.copysign(1, value)


@pytest.mark.parametrize(
  "value", [np.float32(0.1), jnp.float32(0.1), np.array([0.1], np.float32)[0], jnp.bfloat16(0.1)]
)
def test_numbers_of_numpy_and_jax_keep_all_their_bits(writer, value):
  writer.write(1, "train", {"loss": value})
  assert read(writer.path.parent)[0]["loss"] == float(value)


def test_nan_and_infinities_are_valid_json_and_come_back(writer):
  writer.write(1, "train", {"a": math.nan, "b": math.inf, "c": -math.inf})
  strict = json.loads(lines(writer)[0], parse_constant=lambda name: pytest.fail(name))
  assert (strict["a"], strict["b"], strict["c"]) == ("NaN", "Infinity", "-Infinity")
  row = read(writer.path.parent)[0]
  assert math.isnan(row["a"]) and row["b"] == math.inf and row["c"] == -math.inf


def test_what_was_written_is_in_the_file_before_the_writer_closes(writer):
  writer.write(1, "train", {"loss": 1.0})
  assert [row["step"] for row in read(writer.path.parent)] == [1]


def test_no_file_reads_as_no_lines(tmp_path):
  assert read(tmp_path) == []


@pytest.mark.parametrize("tail", [b'{"step": 3, "spl', b"{", b'{"step": 3, "split": "train"}'])
def test_a_half_written_line_is_not_read_and_is_dropped_at_the_next_start(tmp_path, tail):
  """Even one that happens to be complete but for its newline: what follows would be glued to it."""
  with MetricsWriter(tmp_path, tensorboard=False) as writer:
    writer.write(1, "train", {"loss": 1.0})
    writer.write(2, "train", {"loss": 2.0})
  with open(writer.path, "ab") as file:
    file.write(tail)
  assert [row["step"] for row in read(tmp_path)] == [1, 2]
  with MetricsWriter(tmp_path, tensorboard=False) as writer:
    writer.write(3, "train", {"loss": 3.0})
  assert [(row["step"], row["loss"]) for row in read(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_truncate_drops_what_a_resumed_run_will_tell_again(writer):
  for step in range(1, 6):
    writer.write(step, "train", {"loss": step})
  writer.write(4, "validation", {"loss": 0})
  writer.truncate(3)
  writer.write(4, "train", {"loss": 40})
  rows = read(writer.path.parent)
  assert [(row["step"], row["loss"]) for row in rows] == [(1, 1), (2, 2), (3, 3), (4, 40)]
  assert os.listdir(writer.path.parent) == ["metrics.jsonl"]


def test_truncate_to_the_newest_step_changes_nothing(writer):
  writer.write(1, "train", {"loss": 1})
  before = writer.path.stat().st_ino
  writer.truncate(1)
  assert writer.path.stat().st_ino == before and len(lines(writer)) == 1


def test_a_damaged_line_is_named_by_its_number(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\nnonsense\n')
  with pytest.raises(UserError, match=r"metrics.jsonl:2 is not a JSON object with a step"):
    read(tmp_path)


@pytest.mark.parametrize("values, said", [({"step": 1}, "'step'"), ({"loss": "low"}, "'loss'")])
def test_what_is_no_metric_is_refused(writer, values, said):
  with pytest.raises(ValueError, match=said):
    writer.write(1, "train", values)
  assert lines(writer) == []


def test_figures_of_layers_become_lists_and_come_back(writer):
  load = np.float32([[0.1, 0.9], [np.nan, 1 / 3]])
  writer.write(1, "train", {"load": load, "entropy": jnp.float32([0.5, 1.0]), "one": [0.25]})
  (row,) = read(writer.path.parent)
  np.testing.assert_allclose(row["load"], load, rtol=2e-7)  # seven digits are written
  assert row["entropy"] == [0.5, 1.0] and row["one"] == [0.25]


def test_a_full_disk_is_told_and_leaves_whole_lines(writer, monkeypatch):
  writer.write(1, "train", {"loss": 1.0})
  real = os.write

  def full(file, data):
    if file != writer._file:
      return real(file, data)
    if len(data) < 20:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return real(file, data[:20])  # a part fits, as on a real disk

  monkeypatch.setattr(os, "write", full)
  with pytest.raises(UserError, match="disk is full; free some space"):
    writer.write(2, "train", {"loss": 2.0})
  monkeypatch.undo()
  assert [row["step"] for row in read(writer.path.parent)] == [1]
  writer.write(2, "train", {"loss": 2.0})
  assert [row["step"] for row in read(writer.path.parent)] == [1, 2]


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(UserError, match="cannot write .*metrics.jsonl.*choose a MODEL_DIR"):
    MetricsWriter(tmp_path / "file", tensorboard=False)


def test_closing_twice_is_harmless(tmp_path):
  writer = MetricsWriter(tmp_path, tensorboard=False)
  writer.close()
  writer.close()
