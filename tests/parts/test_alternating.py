"""One forward, one backward: the numbers of a plain stack; what waits is bounded by the stages."""

from __future__ import annotations

import jax
import pytest

from mtm.errors import UserError
from mtm.families.t5 import t5
from mtm.parts.alternating import Alternating, Alternation
from mtm.parts.stages import Pipeline
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from tests.parts import test_stages as stages


@pytest.mark.parametrize("cross", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_value_losses_metrics_and_every_gradient_are_those_of_a_pipeline(cross: bool) -> None:
  """Of parameters, input, bias and encoder states, beside another cut, with dropout."""
  fields = {"dropout": 0.3, "cross": cross, "microbatches": 4}
  one = stages.run(stages.stack(Pipeline, **fields), None, train=True)
  cut = stages.run(
    stages.stack(Alternating, **fields), {"stage": 2, "data": 2, "tensor": 2}, train=True
  )
  stages.same(cut, one)


def temporary(kind: type[Pipeline], microbatches: int) -> int:
  """Bytes that a step of microbatches of one row needs beside its arguments and results."""
  plan = Plan(mesh(stage=2, data=1, devices=jax.devices()[:2]))
  module = stages.stack(kind, microbatches=microbatches)
  x, context = stages.inputs(rows=microbatches)

  def loss(params: dict, x: jax.Array) -> jax.Array:
    return module.apply({"params": params}, x, context)[0].sum()

  program = plan.jit(jax.grad(loss)).lower(stages.parameters(), x).compile()
  return program.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_what_waits_does_not_grow_with_the_number_of_microbatches() -> None:
  """Between 8 and 32 microbatches GPipe keeps values of all layers for 24 more; here what comes in
  and goes out is all that grows."""
  grown = {kind: temporary(kind, 32) - temporary(kind, 8) for kind in (Pipeline, Alternating)}
  assert grown[Alternating] < grown[Pipeline] / 4, grown


def test_several_rounds_are_refused() -> None:
  with pytest.raises(UserError, match="has one round, and here are 2"):
    stages.stack(Alternating, microbatches=4, rounds=2)


def test_a_models_stacks_alternate() -> None:
  model = Alternation(4).applied(t5(2, 16, 4, 4, 32, 32)).module
  assert isinstance(model.encoder.stack, Alternating)
  assert "waits 20.0% of its time" in Alternation(4).told(2)
