"""From the training step to the attention matmul: at most 6 files and 12 frames of mtm."""

from __future__ import annotations

import dataclasses
import traceback
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from mtm.families.gpt2 import gpt2
from mtm.families.t5 import t5
from mtm.objectives.causal_lm import CausalLM
from mtm.objectives.span_corruption import SpanCorruption
from mtm.parts.kernels import Request
from mtm.parts.kernels.reference import Reference
from mtm.training import state as states
from mtm.training.precision import NoScale
from mtm.training.step import train_step
from mtm.types import Model, Objective
from tests.contracts.discovered import batch_for
from tests.design.source import PACKAGE


@dataclasses.dataclass(frozen=True)
class Probe:
  """The reference kernel, which writes down who called it."""

  stacks: list[list[traceback.FrameSummary]] = dataclasses.field(
    default_factory=list, compare=False, hash=False
  )
  rank: int = 0

  def supports(self, request: Request) -> str | None:
    return None

  def __call__(self, request: Request) -> jax.Array:
    self.stacks.append(list(traceback.extract_stack()))
    return Reference()(request)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_step_to_matmul_is_short(family: str) -> None:
  probe = Probe()
  model: Model
  objective: Objective
  if family == "gpt2":
    model, objective = gpt2(2, 8, 2, 11, mlp=8, kernel=probe), CausalLM()
  else:
    model, objective = t5(2, 8, 2, 4, 8, 11, kernel=probe), SpanCorruption()
  batch = batch_for(model, length=4)
  optimizer = optax.sgd(0.1)
  step = train_step(model.apply, objective, optimizer)
  fresh = jax.eval_shape(model.init, jax.random.key(0), batch)
  state = jax.eval_shape(lambda p: states.create(p, optimizer, 0, {"loss_scale": NoScale()}), fresh)
  probe.stacks.clear()
  jax.eval_shape(step, state, jax.tree.map(np.asarray, batch))
  assert probe.stacks, "the kernel was not called"
  for stack in probe.stacks:
    ours = [f for f in stack if Path(f.filename).is_relative_to(PACKAGE)]
    assert Path(ours[0].filename).name == "step.py"
    told = [f"{Path(f.filename).name}:{f.name}" for f in ours]
    frames = len(ours) + 1  # and the kernel itself
    files = len({f.filename for f in ours}) + 1
    assert frames <= 12 and files <= 6, f"{frames} frames, {files} files: {told}"
