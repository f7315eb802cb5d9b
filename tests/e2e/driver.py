"""A run in a process of its own that a test can interrupt: `driver.py MODEL_DIR [FAULT STEP]`.

Dropout, and batches from three sources whose state is more than a count: a resumed run that forgot
anything would give other losses.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optax

from mtm import axes
from mtm.training import actions, loop
from mtm.training.checkpoint import Checkpoints
from mtm.training.metrics import MetricsWriter
from tests.training import tiny

TOTAL, PERIOD = 12, 3


class Mixture:
  """Draws each row from one of three generators, and packs it out of a carry-over."""

  def __init__(self) -> None:
    self.choose = np.random.default_rng(0)
    self.sources = [np.random.default_rng(seed) for seed in (1, 2, 3)]
    self.carry: list[int] = []

  def __iter__(self) -> Mixture:
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    ids, segments = (np.zeros((8, tiny.LENGTH), np.int32) for _ in range(2))
    for row in range(8):
      while len(self.carry) < tiny.LENGTH:
        source = self.sources[self.choose.integers(3)]
        self.carry += [*source.integers(2, tiny.VOCAB, source.integers(1, 6)).tolist(), 1]
      ids[row], self.carry = self.carry[: tiny.LENGTH], self.carry[tiny.LENGTH :]
      segments[row] = 1 + np.cumsum(ids[row] == 1) - (ids[row] == 1)
    inputs = np.concatenate([np.zeros((8, 1), np.int32), ids[:, :-1]], axis=1)
    return {
      "decoder_input_tokens": inputs,
      "decoder_target_tokens": ids,
      "decoder_loss_weights": np.ones_like(ids),
      "decoder_segment_ids": segments,
    }

  def state(self) -> dict[str, Any]:
    generators = [g.bit_generator.state for g in (self.choose, *self.sources)]
    return {"generators": generators, "carry": list(self.carry)}

  def restore(self, state: dict[str, Any]) -> None:
    for generator, saved in zip((self.choose, *self.sources), state["generators"], strict=True):
      generator.bit_generator.state = saved
    self.carry = list(state["carry"])


def fault(number: int, step: int) -> Callable[[loop.Run], None]:
  """An action that sends this process a signal after `step` steps."""
  return lambda run: os.kill(os.getpid(), number) if run.step == step else None


def train(model_dir: Path, *faults: Callable[[loop.Run], None]) -> loop.Run:
  """What `mtm train` does: go on from the newest checkpoint, save every few steps."""
  with axes.use(None):
    trainer = tiny.trainer(rows=8, optimizer=optax.adam(1e-2))
    checkpoints, batches = Checkpoints(model_dir), Mixture()
    step = checkpoints.latest()
    if step is None:
      step, state = 0, trainer.create()
    else:
      state, record = checkpoints.restore(step, trainer.abstract)
      batches.restore(record["data"])
    with MetricsWriter(model_dir, tensorboard=False) as writer:
      writer.truncate(step)
      run = loop.Run(trainer, batches, state, step, TOTAL)
      run.observers.append(lambda step, metrics: writer.write(step, "train", told(metrics)))
      save = actions.Save(checkpoints, PERIOD, lambda run: {})
      loop.train(run, [save, *faults])
    checkpoints.close()
  return run


def told(metrics: dict[str, float]) -> dict[str, float]:
  """All but the step."""
  return {name: value for name, value in metrics.items() if name != "step"}


if __name__ == "__main__":
  chosen = [fault(getattr(signal, sys.argv[2]), int(sys.argv[3]))] if len(sys.argv) > 2 else []
  ended = train(Path(sys.argv[1]), *chosen)
  print(f"stopped by {ended.stop} after step {ended.step}", flush=True)
