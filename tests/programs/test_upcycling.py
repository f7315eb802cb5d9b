"""Sparse upcycling: a real dense checkpoint becomes a model with experts that computes the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families._experts import one_in, with_experts
from mtm.families.t5 import t5
from mtm.interop import tree
from mtm.objectives.seq2seq import Seq2Seq
from mtm.parts.experts.dispatch.capacity import Capacity
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers.topk import TopK, every_choice
from mtm.programs import initial
from mtm.programs.upcycling import Upcycle
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training.optimizers.adamw import adamw
from mtm.training.trainer import Trainer
from mtm.types import Model
from tests.families import t5x_names

ARRAYS = t5x_names.load("t5_1_1")
BATCH = {k.removeprefix("in/"): x for k, x in ARRAYS.items() if k.startswith("in/")}
DENSE = str(t5x_names.checkpoint("native", "t5_1_1"))


def sparse(experts: int = 4, layers: int = 2, hidden: int = 24) -> Model:
  """The T5 of the fixture with experts in every second layer, of which a token gets two."""
  model = t5(layers, 16, 2, 8, 24, 64, dropout=0.0)
  router = TopK(2, later=every_choice, balance=0.0)

  def make() -> Experts:
    return Experts(experts, router, ExpertMlp(hidden, gated=True), Capacity(4.0), engine="einsum")

  both: Any = model.module
  towers = (with_experts(tower, make, one_in(2, layers)) for tower in (both.encoder, both.decoder))
  encoder, decoder = towers
  return dataclasses.replace(model, module=both.clone(encoder=encoder, decoder=decoder))


def trainer(model: Model) -> Trainer:
  shapes = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in BATCH.items()}
  plan = Plan(mesh(devices=jax.devices()[:1]))
  return Trainer(model, Seq2Seq(z_loss=1e-4), adamw(1e-3), plan, shapes, normalizer=1.0)


def test_the_first_loss_is_the_dense_models() -> None:
  run = trainer(sparse())
  state, record = initial.state(run, DENSE, upcycle=Upcycle())
  assert int(state.step) == 0 and record["first_step"] == 0
  _, sums = run.train_step(state, run.plan.put_batch(BATCH))
  # The loss that T5X itself recorded; float32, and weights that add up to 1 in the last bit or so.
  np.testing.assert_allclose(sums.loss, ARRAYS["loss"], rtol=1e-5)
  means = sums.means()
  assert means["decoder/block_1/channel/load"].shape == (1, 4)
  assert not means["encoder/block_1/channel/dropped"].any()


def test_every_expert_is_the_dense_layer_of_its_own_depth() -> None:
  run = trainer(sparse())
  params = tree.flatten(initial.state(run, DENSE, upcycle=Upcycle())[0].params)
  wanted = tree.flatten(t5x_names.tree(ARRAYS, "param"))
  name = "decoder/stack/period_{}/channel/{}wi_0/kernel"
  dense = wanted[name.format(0, "")]
  np.testing.assert_array_equal(params[name.format(0, "")], dense[:1])
  for expert in range(4):
    np.testing.assert_array_equal(params[name.format(1, "expert/")][:, expert], dense[1:])


def test_noise_sets_experts_apart_by_so_much_and_is_the_same_every_time() -> None:
  wanted = {"decoder/stack/period_0/channel/expert/wi/kernel": (1, 8, 64, 64)}
  kernel = np.random.default_rng(0).normal(size=(1, 64, 64)).astype(np.float32)
  dense = {"decoder/stack/period_0/channel/wi/kernel": kernel}
  first, again = (dict(Upcycle(noise=0.1).parameters(dense, wanted)) for _ in range(2))
  ((name, bank),) = first.items()
  np.testing.assert_array_equal(bank, again[name])
  off = bank - kernel[:, None]
  # Eight draws of 4,096 numbers each know their deviation to about one per cent.
  np.testing.assert_allclose(off.std((0, 2, 3)) / kernel.std(), 0.1, rtol=0.05)
  assert abs(np.corrcoef(off[0, 0].ravel(), off[0, 1].ravel())[0, 1]) < 0.06


def test_another_depth_or_width_is_refused_by_name() -> None:
  with pytest.raises(UserError, match="has 2 layers in (en|de)coder/stack"):
    initial.state(trainer(sparse(layers=4)), DENSE, upcycle=Upcycle())
  with pytest.raises(UserError, match="expert/wi_0/kernel is .* give both the same sizes"):
    initial.state(trainer(sparse(hidden=32)), DENSE, upcycle=Upcycle())


def test_it_does_not_go_with_parameters_that_begin_afresh() -> None:
  with pytest.raises(UserError, match="FALLBACK_TO_SCRATCH = 'head/.*' does not go with `upcycle`"):
    initial.state(trainer(sparse()), DENSE, "head/.*", Upcycle())


def test_what_the_dense_model_has_more_is_refused() -> None:
  dense = {"head/kernel": np.zeros(3), "head/bias": np.zeros(1)}
  with pytest.raises(UserError, match="has head/bias, for which"):
    list(Upcycle().parameters(dense, {"head/kernel": (3,)}))
