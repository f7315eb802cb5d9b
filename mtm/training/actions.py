"""What happens between steps: logging, evaluation, checkpoints. Others live where they belong.

An action is called after every step and decides itself whether it is due.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from mtm.training.checkpoint import Checkpoints
from mtm.training.loop import Run
from mtm.training.metrics import MetricsWriter
from mtm.training.trainer import Evaluator
from mtm.types import Batch, Batches, Objective, Params

Show = Callable[[int, Mapping[str, float]], None]
Work = tuple[float | None, float | None]


class EvaluationData(Protocol):
  """What `Evaluate` reads; `mtm.data.pipeline.Dataset` is one."""

  def batches(self, objective: Objective, shard: tuple[int, int] = (0, 1)) -> Batches:
    """A finite stream of batches, the same at every call."""

  def token_bytes(self) -> np.ndarray | None:
    """`[vocab]`: how many bytes of text each id stands for, or None."""


def due(run: Run, period: int) -> bool:
  """Whether a multiple of `period` steps was taken, or all of them; 0 means at the end only.

  An interrupted run is in a hurry: nothing but saving is due for that.
  """
  return run.finished or (period > 0 and run.step % period == 0)


@dataclasses.dataclass
class Log:
  """Observes metrics: one line of `metrics.jsonl` every `period` steps, the bar every step.

  Attributes:
    run: whose clock gives the rates.
    writer: None on all hosts but the first.
    show: draws the progress bar.
    period: steps between two lines.
    work: gives the model FLOPs of a step, and the FLOP/s of all devices together; None where it is
      unknown. It is asked once, after the first step was told: counting takes a second or more.
  """

  run: Run
  writer: MetricsWriter | None
  show: Show
  period: int
  work: Callable[[], Work] = lambda: (None, None)

  def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
    rates = self._rates()
    self.show(step, {**metrics, **rates})
    if self.writer is not None and (step % self.period == 0 or step >= self.run.total):
      values = {name: value for name, value in metrics.items() if name != "step"}
      self.writer.write(step, "train", {**values, **rates, "tokens": self.run.tokens})
    self._work  # noqa: B018 (counts within the first step, which no rate holds)

  @functools.cached_property
  def _work(self) -> Work:
    return self.work()

  def _rates(self) -> dict[str, float]:
    """Over the steps of this process; the newest one is still in flight and does not count."""
    clock = self.run.clock
    if clock.steps < 2:
      return {}
    pace = (clock.steps - 1) / clock.busy
    rates = {
      "tokens_per_second": clock.tokens / clock.read * pace,
      "steps_per_second": pace,
      "waiting": clock.waited / clock.busy,
    }
    step, peak = self._work
    if step and peak:
      rates["mfu"] = step * pace / peak
    return rates


@dataclasses.dataclass(frozen=True)
class Evaluate:
  """Means over held-out data, every `period` steps and at the end.

  Writes a line with `split` = `name`. Where tokens stand for a known number of bytes, it adds
  `bits_per_byte`, which does not depend on the vocabulary.

  Attributes:
    data: what is evaluated.
    period: steps between two evaluations.
    name: the split's name in `metrics.jsonl`.
    writer: None on all hosts but the first.
  """

  data: EvaluationData
  period: int
  name: str
  writer: MetricsWriter | None

  def __call__(self, run: Run) -> None:
    if due(run, self.period) and run.step:
      run.sync()
      with run.clock.measure("evaluation"):
        values = measure(run.trainer.evaluator, run.state.params, self.data)
      if self.writer is not None:
        self.writer.write(run.step, self.name, {**values, "tokens": run.tokens})
      run.note(f"step {run.step}: {self.name} {described(values)}")


def measure(evaluator: Evaluator, params: Params, data: EvaluationData) -> dict[str, float]:
  """Means of the objective's metrics over all of `data`, and `bits_per_byte` where it is known.

  Args:
    evaluator: the model and the objective.
    params: what to evaluate.
    data: each host reads its own share.
  """
  shard = (jax.process_index(), jax.process_count())
  counter = _ByteCounter(data.token_bytes(), evaluator.objective.side)
  values = evaluator.evaluate(params, counter.watch(data.batches(evaluator.objective, shard)))
  if counter.table is not None and counter.bytes and "cross_entropy" in values:
    nats = values["cross_entropy"] * counter.tokens
    values["bits_per_byte"] = nats / math.log(2) / counter.bytes
  return values


def described(values: Mapping[str, float]) -> str:
  """The figures that people look at first, as text."""
  wanted = {"loss": "loss", "bits_per_byte": "bits/byte", "accuracy": "accuracy"}
  told = [f"{label} {values[name]:.3f}" for name, label in wanted.items() if name in values]
  return ", ".join(told)


class _ByteCounter:
  """Counts target tokens, and the bytes of text that they stand for, while batches pass by."""

  def __init__(self, table: np.ndarray | None, side: str) -> None:
    self.table, self.side, self.tokens, self.bytes = table, side, 0.0, 0.0

  def watch(self, batches: Batches) -> Iterator[Batch]:
    for batch in batches:
      weights = np.asarray(batch[f"{self.side}_loss_weights"], np.float64)
      targets = np.asarray(batch[f"{self.side}_target_tokens"])
      self.tokens += float(weights.sum())
      if self.table is not None:
        self.bytes += float((self.table[np.minimum(targets, len(self.table) - 1)] * weights).sum())
      yield batch


@dataclasses.dataclass(frozen=True)
class Save:
  """A checkpoint every `period` steps, at the end, and when the run is interrupted.

  Attributes:
    checkpoints: where.
    period: steps between two.
    record: what lies beside the arrays: text and numbers that JSON can hold.
  """

  checkpoints: Checkpoints
  period: int
  record: Callable[[Run], Mapping[str, Any]]

  def __call__(self, run: Run) -> None:
    wanted = run.last or due(run, self.period)
    if not wanted or not run.step or self.checkpoints.latest() == run.step:
      return
    run.sync()
    with run.clock.measure("checkpoints"):
      self.checkpoints.save(run.state, {**self.record(run), "data": run.batches.state()})
      if run.last:
        self.checkpoints.wait()
