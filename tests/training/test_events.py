"""TensorBoard events follow `metrics.jsonl` through clu, from a thread or a child process."""

from __future__ import annotations

import json
import logging
import math
import struct
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from mtm.training import events
from mtm.training.metrics import MetricsWriter

ROOT = Path(__file__).parents[2]
ROWS = [
  {"step": 1, "split": "train", "loss": 2.5, "accuracy": 0.25},
  {"step": 2, "split": "train", "loss": "NaN"},
  {"step": 2, "split": "validation", "loss": "-Infinity"},
]


class Writer:
  """What `clu.metric_writers.SummaryWriter` is asked to do."""

  def __init__(self, logdir):
    self.logdir, self.scalars, self.flushed, self.closed = logdir, [], 0, False
    Writer.made = self

  def write_scalars(self, step, scalars):
    self.scalars.append((step, scalars))

  def flush(self):
    self.flushed += 1

  def close(self):
    self.closed = True


@pytest.fixture
def clu(monkeypatch):
  """A stand-in for clu and TensorFlow, whose import takes seconds."""
  monkeypatch.setitem(sys.modules, "clu", types.ModuleType("clu"))
  module = types.ModuleType("clu.metric_writers")
  module.SummaryWriter = Writer
  monkeypatch.setitem(sys.modules, "clu.metric_writers", module)
  hidden = []
  config = types.SimpleNamespace(set_visible_devices=lambda *args: hidden.append(args))
  monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(config=config))
  return hidden


def jsonl(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_every_number_becomes_an_event_tagged_by_its_split(tmp_path, clu):
  path = tmp_path / "metrics.jsonl"
  jsonl(path, ROWS)
  events.follow(path, 0, lambda seconds: True)
  first, second, third = Writer.made.scalars
  assert first == (1, {"train/loss": 2.5, "train/accuracy": 0.25})
  assert second[0] == 2 and math.isnan(second[1]["train/loss"])
  assert third == (2, {"validation/loss": -math.inf})
  assert Writer.made.logdir == str(tmp_path) and Writer.made.closed


def test_lists_become_an_event_for_each_number_and_tables_none(tmp_path, clu):
  path = tmp_path / "metrics.jsonl"
  jsonl(path, [{"step": 1, "split": "train", "entropy": [0.5, "NaN"], "load": [[0.5, 0.5]]}])
  events.follow(path, 0, lambda seconds: True)
  ((_, scalars),) = Writer.made.scalars
  assert list(scalars) == ["train/entropy/0", "train/entropy/1"]
  assert scalars["train/entropy/0"] == 0.5 and math.isnan(scalars["train/entropy/1"])


def test_tensorflow_never_sees_a_gpu(tmp_path, clu):
  path = tmp_path / "metrics.jsonl"
  jsonl(path, ROWS)
  events.follow(path, 0, lambda seconds: True)
  assert clu == [([], "GPU")]


def test_lines_that_grow_are_followed_whole_and_once(tmp_path, clu):
  path = tmp_path / "metrics.jsonl"
  lines = [json.dumps(row) + "\n" for row in ROWS]
  pieces = [lines[0], lines[1][:9], lines[1][9:], lines[2]]
  path.touch()

  def wait(seconds):
    with open(path, "a") as file:
      file.write(pieces.pop(0))
    return not pieces

  events.follow(path, 0, wait)
  assert [step for step, _ in Writer.made.scalars] == [1, 2, 2]
  assert Writer.made.flushed == 4


def test_a_resumed_run_does_not_tell_earlier_lines_again(tmp_path, clu):
  path = tmp_path / "metrics.jsonl"
  jsonl(path, ROWS)
  events.follow(path, len(json.dumps(ROWS[0])) + 1, lambda seconds: True)
  assert [step for step, _ in Writer.made.scalars] == [2, 2]


def test_where_tensorflow_is_loaded_a_thread_writes_and_closing_waits_for_it(tmp_path, clu):
  with MetricsWriter(tmp_path) as writer:
    writer.write(1, "train", {"loss": 2.5})
    assert any(thread.name == "tensorboard" for thread in threading.enumerate())
    writer.write(2, "train", {"loss": 1.5})
  assert Writer.made.scalars == [(1, {"train/loss": 2.5}), (2, {"train/loss": 1.5})]
  assert Writer.made.closed


def test_what_breaks_in_the_thread_is_logged_once_and_training_goes_on(
  tmp_path, clu, monkeypatch, caplog
):
  monkeypatch.setattr(Writer, "write_scalars", lambda *args: 1 / 0)
  monkeypatch.setattr(events, "_told", set())
  for _ in range(2):
    with MetricsWriter(tmp_path) as writer, caplog.at_level(logging.WARNING):
      writer.write(1, "train", {"loss": 2.5})
  assert [r.message for r in caplog.records].count(
    "TensorBoard events are not written: division by zero"
  ) == 1


def test_without_tensorflow_there_are_no_events_and_one_word_about_it(
  tmp_path, monkeypatch, caplog
):
  monkeypatch.setitem(sys.modules, "tensorflow", None)
  monkeypatch.setattr(events, "_told", set())
  for _ in range(2):
    with MetricsWriter(tmp_path) as writer, caplog.at_level(logging.WARNING):
      writer.write(1, "train", {"loss": 2.5})
  assert len(caplog.records) == 1 and "TensorFlow or clu is not installed" in caplog.text


@pytest.mark.slow
def test_a_child_process_writes_real_events_and_ends_when_its_parent_does(tmp_path):
  """The real clu and TensorFlow; the parent is killed as soon as it has written."""
  code = (
    "import os, sys, time; from mtm.training.metrics import MetricsWriter\n"
    "writer = MetricsWriter(sys.argv[1])\n"
    "writer.write(1, 'train', {'loss': 2.5}); writer.write(2, 'train', {'loss': float('nan')})\n"
    "assert 'tensorflow' not in sys.modules\n"
    "print(writer._events._process.pid, flush=True)\n"
    "os.kill(os.getpid(), 9)\n"
  )
  child = subprocess.run(
    [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
  )
  pid = int(child.stdout)
  wait_for(pid)
  (path,) = tmp_path.glob("events.out.tfevents.*")
  first, second = [v for v in scalars(path) if v[1].startswith("train/")]
  assert first == (1, "train/loss", 2.5)
  assert second[:2] == (2, "train/loss") and math.isnan(second[2])


def scalars(path):
  """(step, tag, value) of an event file by its format: TensorBoard reads it with TensorFlow."""
  from tensorboard.compat.proto.event_pb2 import Event

  data, at = path.read_bytes(), 0
  while at < len(data):
    (size,) = struct.unpack_from("<Q", data, at)
    event = Event.FromString(data[at + 12 : at + 12 + size])
    at += size + 16
    for value in event.summary.value:
      if value.tensor.tensor_content:
        yield event.step, value.tag, struct.unpack("<f", value.tensor.tensor_content)[0]


def wait_for(pid):
  """Until an orphan has ended; it is nobody's child here, so its end is polled."""
  ending = time.monotonic() + 120
  while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split():
    assert time.monotonic() < ending, "the writer of events outlives its parent"
    time.sleep(0.2)
