"""Experts on a mesh: the run of one device. How rows travel, see tests/e2e/test_tpu_experts.py."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest

from mtm.families._experts import one_in, with_experts
from mtm.families.llama import llama
from mtm.objectives.causal_lm import CausalLM
from mtm.parts.experts.dispatch.capacity import Capacity
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers.switch import Switch
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


def trainer(plan: Plan, engine: str, places: int | None) -> Trainer:
  model = llama(2, tiny.EMBED, tiny.HEADS, 32, tiny.VOCAB, dropout=0.1)
  expert = ExpertMlp(32, jax.nn.silu, gated=True)
  dispatch = Dropless() if places is None else Capacity(size=places)

  def make() -> Experts:
    return Experts(EXPERTS, Switch(), expert, dispatch, engine=engine)

  decoder: Any = model.module
  tower = with_experts(decoder.decoder, make, one_in(2, 2))
  model = dataclasses.replace(model, module=decoder.clone(decoder=tower))
  batch = tiny.shapes(tiny.batch("llama"))
  return Trainer(model, CausalLM(), tiny.KEEP_GRADIENTS, plan, batch, microbatches=2)


def first_step(trainer: Trainer) -> tuple[Any, Any]:
  """Gradients and means of the first step, on the host."""
  state, sums = trainer.train_step(trainer.create(), trainer.plan.put_batch(tiny.batch("llama")))
  return jax.device_get(state.opt_state[0].trace), jax.device_get(sums.means())


@functools.cache
def on_one_device(places: int | None) -> tuple[Any, Any]:
  return first_step(trainer(tiny.one_device(), "einsum", places))


def norm(tree: Any) -> float:
  return float(np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in jax.tree.leaves(tree))))


@pytest.mark.parametrize(
  ("name", "engine", "places"),
  [
    ("expert=8", "gather", 1),
    ("fsdp=2 expert=2 tensor=2", "gather", 1),
    ("data=2 expert=4", "auto", None),
    pytest.param("data=2 expert=4", "einsum", 1, marks=pytest.mark.slow),
  ],
)
def test_a_mesh_changes_neither_loss_nor_gradient_nor_load(
  name: str, engine: str, places: int | None
) -> None:
  """Jitter, dropout and two microbatches are on, and places are few enough that some are dropped;
  without places nobody is."""
  gradient, means = on_one_device(places)
  got, got_means = first_step(trainer(tiny.on(MESHES[name]), engine, places))
  np.testing.assert_allclose(got_means["loss"], means["loss"], rtol=TOLERANCE)
  assert norm(jax.tree.map(np.subtract, got, gradient)) <= TOLERANCE * norm(gradient)
  dropped = means["block_1/channel/dropped"]
  assert (dropped > 0).all() == (places is not None)
  for key in (key for key in means if "/channel/" in key):
    np.testing.assert_allclose(got_means[key], means[key], rtol=1e-4, atol=1e-6, err_msg=key)
