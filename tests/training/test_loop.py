"""The loop: every metric is told once and in order, actions see every step, signals end it well."""

from __future__ import annotations

import os
import signal
import threading
import types

import numpy as np
import pytest

from mtm.training import loop
from mtm.training.loop import Run
from mtm.types import Sums


class Trainer:
  """Steps that cost nothing; `log` tells when each was dispatched."""

  def __init__(self):
    self.log = []
    self.plan = types.SimpleNamespace(put_batch=lambda batch: batch)

  def train_step(self, state, batch):
    self.log.append(("dispatched", state + 1))
    if "raise" in batch:
      signal.raise_signal(batch["raise"])
    loss = np.float32(10 * (state + 1))
    return state + 1, Sums(loss, np.float32(4), {"accuracy": (np.float32(1), np.float32(2))})


class Stream:
  def __init__(self, batches):
    self.left = list(batches)

  def __iter__(self):
    return self

  def __next__(self):
    if not self.left:
      raise StopIteration
    return self.left.pop(0)


def run_of(batches, total, step=0, **fields):
  if isinstance(batches, int):
    batches = [{}] * batches
  trainer = Trainer()
  run = Run(trainer, Stream(batches), state=step, step=step, total=total, **fields)
  run.observers.append(lambda step, metrics: trainer.log.append(("read", step)))
  return run


def test_every_step_is_observed_once_and_in_order_with_its_means():
  run = run_of(5, 5)
  seen = []
  run.observers.append(lambda step, metrics: seen.append(dict(metrics)))
  loop.train(run, [])
  assert seen == [{"step": n, "loss": 10 * n / 4, "accuracy": 0.5} for n in range(1, 6)]
  assert run.step == run.state == 5 and run.last


def test_metrics_are_read_after_the_next_step_was_dispatched_and_the_last_ones_at_the_end():
  run = run_of(4, 4)
  loop.train(run, [])
  assert run.trainer.log == [
    ("dispatched", 1), ("read", 1),  # the first at once: something to show
    ("dispatched", 2),
    ("dispatched", 3), ("read", 2),
    ("dispatched", 4), ("read", 3), ("read", 4),
  ]  # fmt: skip


def test_sync_reads_the_newest_metrics_at_once():
  run = run_of(4, 4)
  seen = []

  def act(run):
    run.sync()
    run.sync()  # nothing more to read
    seen.append(run.metrics["step"])

  loop.train(run, [act])
  assert seen == [1, 2, 3, 4]
  assert [entry for entry in run.trainer.log if entry[0] == "read"] == [
    ("read", n) for n in range(1, 5)
  ]


def test_actions_are_called_after_every_step_in_order_and_see_the_last():
  run, calls = run_of(3, 3), []
  first = lambda run: calls.append(("first", run.step, run.last))  # noqa: E731
  second = lambda run: calls.append(("second", run.step, run.last))  # noqa: E731
  loop.train(run, [first, second])
  assert calls == [(name, step, step == 3) for step in (1, 2, 3) for name in ("first", "second")]


def test_a_finished_run_does_nothing():
  run = run_of(5, total=7, step=7)
  loop.train(run, [lambda run: pytest.fail("an action was called")])
  assert run.trainer.log == []


def test_tokens_count_on_from_earlier_runs():
  run = loop.train(run_of(3, total=5, step=2, tokens_before=100.0), [])
  assert run.clock.tokens == 12 and run.tokens == 112


def test_the_clock_counts_steps_but_the_first_and_time_in_actions():
  def act(run):
    with run.clock.measure("evaluation"):
      pass

  run = loop.train(run_of(4, 4), [act])
  assert run.clock.steps == 3 and run.clock.compiled > 0
  assert 0 <= run.clock.waited <= run.clock.busy
  assert run.clock.actions["evaluation"] > 0


def test_a_stream_that_ends_stops_the_run_with_a_reason_and_a_last_call():
  run, last = run_of(2, total=5), []
  loop.train(run, [lambda run: last.append((run.step, run.last))])
  assert run.stop == loop.ENDED and run.step == 2
  assert last[-1] == (2, True)


def test_a_zero_denominator_gives_zero_not_nan():
  run = run_of(1, 1)
  run.trainer.train_step = lambda state, batch: (state + 1, Sums(np.float32(0), np.float32(0), {}))
  assert loop.train(run, []).metrics == {"step": 1, "loss": 0.0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
class TestSignals:
  def test_one_in_a_step_ends_the_run_after_it_and_all_actions_see_the_last_call(self, number):
    run, seen = run_of([{}, {"raise": number}, {}, {}], total=4), []
    act = lambda run: seen.append((run.step, run.last))  # noqa: E731
    loop.train(run, [act, act])
    assert run.stop == signal.Signals(number).name and run.step == 2
    assert seen == [(1, False), (1, False), (2, True), (2, True)]
    assert run.metrics["step"] == 2

  def test_one_between_actions_takes_one_more_step_so_that_all_see_the_last_call(self, number):
    """Else a checkpoint action that came before the signal would never save."""
    run, saved = run_of(9, total=9), []
    save = lambda run: saved.append(run.step) if run.last else None  # noqa: E731
    interrupt = lambda run: signal.raise_signal(number) if run.step == 3 else None  # noqa: E731
    loop.train(run, [save, interrupt])
    assert run.step == 4 and saved == [4]

  def test_handlers_are_put_back(self, number):
    before = signal.getsignal(number)
    run = run_of([{"raise": number}], total=2)
    loop.train(run, [])
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_interrupts_at_once():
  run = run_of([{"raise": signal.SIGINT}, {}], total=2)
  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(KeyboardInterrupt):
    loop.train(run, [lambda run: signal.raise_signal(signal.SIGINT)])
  assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_signals_are_left_alone():
  run = run_of(2, 2)
  thread = threading.Thread(target=loop.train, args=(run, []))
  thread.start()
  thread.join()
  assert run.step == 2 and os.getpid()
