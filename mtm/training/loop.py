"""The training loop: next batch, step, actions; metrics are read one step late.

Reading a step's metrics waits for the device, so the loop dispatches the next step first: the
device never idles while the host logs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from mtm.training.metrics import plain
from mtm.training.state import TrainState
from mtm.training.trainer import Trainer
from mtm.types import Batches

ENDED = "the end of the data"


@dataclasses.dataclass
class Clock:
  """Where the wall time went, in seconds.

  Attributes:
    started: `time.time()` when the loop began.
    waited: waiting for the next batch.
    busy: steps, waiting for data and results included; actions and the first step excluded.
    compiled: the first step, compilation included.
    steps: how many steps `busy` holds.
    actions: seconds by the name of what was done between steps.
    tokens: target tokens trained on by this process's run, all hosts together.
    read: how many steps `tokens` holds.
  """

  started: float = dataclasses.field(default_factory=time.time)
  waited: float = 0.0
  busy: float = 0.0
  compiled: float = 0.0
  steps: int = 0
  actions: dict[str, float] = dataclasses.field(default_factory=dict)
  tokens: float = 0.0
  read: int = 0

  @contextlib.contextmanager
  def measure(self, name: str) -> Iterator[None]:
    """Adds the seconds within to `actions[name]`."""
    began = time.perf_counter()
    try:
      yield
    finally:
      self.actions[name] = self.actions.get(name, 0.0) + time.perf_counter() - began

  def step(self, waited: float, took: float) -> None:
    """Notes a step of `took` seconds, of which `waited` went on waiting for its batch."""
    if not self.compiled:
      self.compiled = took
      return
    self.waited += waited
    self.busy += took
    self.steps += 1


@dataclasses.dataclass
class Run:
  """A run in progress: what actions may look at and, with care, change.

  Attributes:
    trainer: model, objective, optimizer, plan.
    batches: the training stream.
    state: after `step` steps.
    step: steps taken.
    total: steps to take.
    metrics: means of the newest step whose metrics were read, with its number under `step`.
    clock: where the time went.
    tokens_before: tokens that earlier runs of this MODEL_DIR trained on.
    stop: a reason to stop after this step, or None.
    observers: called with the step and its metrics once for every step, in order.
    pending: reads the metrics of the newest step, where they were not read yet.
    model_dir: where the run keeps its files.
    note: shows a line of text to whoever watches.
    begin_id: what the decoder's rows begin with.
  """

  trainer: Trainer
  batches: Batches
  state: TrainState
  step: int
  total: int
  metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  clock: Clock = dataclasses.field(default_factory=Clock)
  tokens_before: float = 0.0
  stop: str | None = None
  observers: list[Callable[[int, Mapping[str, float]], None]] = dataclasses.field(
    default_factory=list
  )
  pending: Callable[[], None] | None = None
  model_dir: Path = Path()
  note: Callable[[str], None] = print
  begin_id: int = 0

  def sync(self) -> None:
    """Waits for the newest step and reads its metrics: what an action does before it saves."""
    began = time.perf_counter()
    self._read()
    self.clock.busy += time.perf_counter() - began

  def _read(self) -> None:
    if self.pending is not None:
      pending, self.pending = self.pending, None
      pending()

  @property
  def last(self) -> bool:
    """Whether no step follows."""
    return self.finished or self.stop is not None

  @property
  def finished(self) -> bool:
    """Whether no step is left to take, so that running again would not go on."""
    return self.step >= self.total or self.stop == ENDED

  @property
  def tokens(self) -> float:
    """Target tokens that the parameters have seen."""
    return self.tokens_before + self.clock.tokens


class Action(Protocol):
  """Something that happens between steps, such as logging or a checkpoint."""

  def __call__(self, run: Run) -> None:
    """Called after every step; decides itself whether it is due. `run.last` marks the last call."""


def train(run: Run, actions: Sequence[Action]) -> Run:
  """Steps until `run.total` or a signal, and returns the run.

  SIGINT and SIGTERM end it after the step in flight, with `run.stop` naming the signal; actions
  then see `run.last`, so that a checkpoint is saved. A second SIGINT interrupts at once.

  Args:
    run: where to begin.
    actions: called after every step, in order; several devices and hosts call them alike.
  """
  with _signals(run):
    finished = run.last
    while not finished:
      began = time.perf_counter()
      batch = next(run.batches, None)
      if batch is None:
        run.stop = ENDED
      else:
        _step(run, batch, began)
      finished = run.last  # a signal during the actions: one more step, and all see `run.last`
      for action in actions:
        action(run)
  return run


def _step(run: Run, batch: Mapping[str, Any], began: float) -> None:
  """One step; `began` is when the wait for its batch did."""
  ready = time.perf_counter()
  run.state, sums = run.trainer.train_step(run.state, run.trainer.plan.put_batch(batch))
  run.step += 1
  run._read()  # of the step before: the device is busy with this one meanwhile
  run.pending = _reader(run, run.step, sums)
  if run.last or not run.metrics:  # nothing follows that could overlap, or nothing was read yet
    run._read()
  run.clock.step(ready - began, time.perf_counter() - began)


def _reader(run: Run, step: int, sums: Any) -> Callable[[], None]:
  """Reads the metrics of `step` when called, and shows them to the observers."""

  def read() -> None:
    host = jax.device_get(sums)
    pairs = {"loss": (host.loss, host.weight), **host.metrics}
    means = {name: plain(n / (float(d) or 1.0)) for name, (n, d) in pairs.items()}
    run.metrics = {"step": step, **means}
    run.clock.tokens += float(host.weight)
    run.clock.read += 1
    for observe in run.observers:
      observe(step, run.metrics)

  return read


@contextlib.contextmanager
def _signals(run: Run) -> Iterator[None]:
  """Turns SIGINT and SIGTERM into `run.stop`. Outside the main thread it does nothing."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return

  def note(number: int, _: Any) -> None:
    if run.stop is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    run.stop = signal.Signals(number).name

  before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
