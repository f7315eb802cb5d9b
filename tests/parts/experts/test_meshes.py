"""Experts on a mesh: the run of one device. How rows travel, see tests/e2e/test_tpu_experts.py."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest

from mtm.families.switch import switch
from mtm.objectives.span_corruption import SpanCorruption
from mtm.sharding.plan import Plan
from mtm.training.trainer import Trainer
from tests.training import tiny

# float32 sums in another order, as for dense models; the router decides in float32 everywhere.
TOLERANCE = 1e-5
EXPERTS = 8
MESHES = {
  "expert=8": {"data": 1, "expert": 8},
  "data=2 expert=4": {"data": 2, "expert": 4},
  "fsdp=2 expert=2 tensor=2": {"data": 1, "fsdp": 2, "expert": 2, "tensor": 2},
}


def trainer(plan: Plan, engine: str, capacity: float | None = 1.0) -> Trainer:
  model = switch(
    2, tiny.EMBED, tiny.HEADS, 4, 32, tiny.VOCAB, EXPERTS, capacity=capacity, engine=engine
  )
  batch = tiny.shapes(tiny.batch("t5"))
  return Trainer(model, SpanCorruption(), tiny.KEEP_GRADIENTS, plan, batch, microbatches=2)


def first_step(trainer: Trainer) -> tuple[Any, Any]:
  """Gradients and means of the first step, on the host."""
  state, sums = trainer.train_step(trainer.create(), trainer.plan.put_batch(tiny.batch("t5")))
  return jax.device_get(state.opt_state[0].trace), jax.device_get(sums.means())


@functools.cache
def on_one_device(capacity: float | None) -> tuple[Any, Any]:
  return first_step(trainer(tiny.one_device(), "einsum", capacity))


def norm(tree: Any) -> float:
  return float(np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in jax.tree.leaves(tree))))


@pytest.mark.parametrize(
  ("name", "engine", "capacity"),
  [
    ("expert=8", "gather", 1.0),
    ("data=2 expert=4", "einsum", 1.0),
    ("fsdp=2 expert=2 tensor=2", "gather", 1.0),
    ("data=2 expert=4", "auto", None),
  ],
)
def test_a_mesh_changes_neither_loss_nor_gradient_nor_load(
  name: str, engine: str, capacity: float | None
) -> None:
  """Jitter, dropout and two microbatches are on, and places are few enough that some are dropped;
  without capacity nobody is."""
  gradient, means = on_one_device(capacity)
  got, got_means = first_step(trainer(tiny.on(MESHES[name]), engine, capacity))
  np.testing.assert_allclose(got_means["loss"], means["loss"], rtol=TOLERANCE)
  assert norm(jax.tree.map(np.subtract, got, gradient)) <= TOLERANCE * norm(gradient)
  dropped = means["encoder/block_1/channel/dropped"]
  assert (dropped > 0).all() == (capacity is not None)
  for key in (key for key in means if "/channel/" in key):
    np.testing.assert_allclose(got_means[key], means[key], rtol=1e-4, atol=1e-6, err_msg=key)
