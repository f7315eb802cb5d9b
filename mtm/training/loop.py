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
from typing import Any, Protocol

import jax

from mtm.training.state import TrainState
from mtm.training.trainer import Trainer
from mtm.types import Batches


@dataclasses.dataclass
class Clock:
  """Where the wall time went, in seconds.

  Attributes:
    started: `time.time()` when the loop began.
    waited: waiting for the next batch.
    busy: steps, data wait included; actions excluded.
    compiled: the first step, compilation included.
    tokens: target tokens trained on by this process's run, all hosts together.
  """

  started: float = dataclasses.field(default_factory=time.time)
  waited: float = 0.0
  busy: float = 0.0
  compiled: float = 0.0
  tokens: float = 0.0


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
  """

  trainer: Trainer
  batches: Batches
  state: TrainState
  step: int
  total: int
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
  clock: Clock = dataclasses.field(default_factory=Clock)
  tokens_before: float = 0.0
  stop: str | None = None

  @property
  def last(self) -> bool:
    """Whether no step follows."""
    return self.step >= self.total or self.stop is not None

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
    pending: Callable[[], None] = lambda: None  # noqa: E731
    while not run.last:
      began = time.perf_counter()
      batch = run.trainer.plan.put_batch(next(run.batches))
      ready = time.perf_counter()
      run.state, sums = run.trainer.train_step(run.state, batch)
      run.step += 1
      pending()
      pending = _reader(run, run.step, sums)
      if run.step >= run.total or run.stop or not run.metrics:
        pending()  # nothing follows that could overlap with it, or nothing was read yet
        pending = lambda: None  # noqa: E731
      ended = time.perf_counter()
      run.clock.waited += ready - began
      run.clock.busy += ended - began
      run.clock.compiled = run.clock.compiled or ended - ready
      for action in actions:
        action(run)
    pending()
  return run


def _reader(run: Run, step: int, sums: Any) -> Callable[[], None]:
  """Reads the metrics of `step` when called."""

  def read() -> None:
    means, weight = jax.device_get((sums.means(), sums.weight))
    run.metrics = {"step": step, **{name: float(value) for name, value in means.items()}}
    run.clock.tokens += float(weight)

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
