"""On every mesh a run is the run of one device: parameters, dropout, losses, gradients."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from mtm.axes import LayoutError
from mtm.errors import UserError
from mtm.parts.dropout import keep_mask
from tests.training import tiny

# float32 sums in another order: a few ulp a term, far above what was seen (5e-7).
TOLERANCE = 1e-5
QUICK = {
  ("gpt2", "data=8"),
  ("gpt2", "fsdp=8"),
  ("t5", "data=2 fsdp=2 tensor=2"),
  ("llama", "data=2 tensor=4"),
}


def first_step(trainer, batch):
  """Initial parameters, gradients and means of the first step, on the host."""
  state = trainer.create()
  params = jax.device_get(state.params)
  state, sums = trainer.train_step(state, trainer.plan.put_batch(batch))
  return params, jax.device_get(state.opt_state[0].trace), jax.device_get(sums.means())


def norm(tree):
  return float(np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in jax.tree.leaves(tree))))


def distance(a, b):
  return norm(jax.tree.map(np.subtract, a, b))


@functools.cache
def on_one_device(family):
  return first_step(tiny.trainer(family), tiny.batch(family))


def every_mesh():
  for family in tiny.FAMILIES:
    for name in tiny.MESHES:
      marks = () if (family, name) in QUICK else pytest.mark.slow
      yield pytest.param(family, name, id=f"{family} {name}", marks=marks)


@pytest.mark.parametrize("family, name", list(every_mesh()))
def test_a_mesh_changes_neither_parameters_nor_dropout_nor_loss_nor_gradient(family, name):
  params, gradient, means = on_one_device(family)
  trainer = tiny.trainer(family, tiny.on(tiny.MESHES[name]))
  got_params, got_gradient, got_means = first_step(trainer, tiny.batch(family))
  jax.tree.map(np.testing.assert_array_equal, got_params, params)
  # Dropout is on: one different bit of a mask would move the loss by far more than this.
  np.testing.assert_allclose(got_means["loss"], means["loss"], rtol=TOLERANCE)
  assert distance(got_gradient, gradient) <= TOLERANCE * norm(gradient)
  assert float(got_means["gradient_norm"]) == pytest.approx(norm(gradient), rel=TOLERANCE)


def test_dropout_is_on_in_training_and_moves_the_loss_far_more_than_the_tolerance():
  _, _, means = on_one_device("gpt2")
  _, _, without = first_step(tiny.trainer(dropout=0.0), tiny.batch("gpt2"))
  assert abs(means["loss"] - without["loss"]) > 100 * TOLERANCE * without["loss"]


@pytest.mark.parametrize("shape", [(16, 8, 12), (16, 4, 8, 7)])
@pytest.mark.parametrize("name", tiny.MESHES)
def test_dropout_masks_are_bit_identical_on_every_mesh(name, shape):
  plan = tiny.on(tiny.MESHES[name])
  names = ("batch", "length", "mlp") if len(shape) == 3 else ("batch", "heads", None, None)
  where = plan.activations.sharding(names, shape)
  draw = functools.partial(keep_mask, rate=0.3, shape=shape)
  cut, _ = jax.jit(draw, out_shardings=(where, None))(jax.random.key(5))
  np.testing.assert_array_equal(cut, draw(jax.random.key(5))[0])


def test_evaluation_on_a_mesh_equals_that_on_one_device():
  batches = [tiny.batch("gpt2", seed=seed) for seed in range(3)]
  one = tiny.trainer()
  cut = tiny.trainer(plan=tiny.on({"data": 2, "fsdp": 2, "tensor": 2}))
  expected = one.evaluate(one.create().params, batches)
  got = cut.evaluate(cut.create().params, batches)
  assert got == pytest.approx(expected, rel=TOLERANCE, abs=1e-7)


def test_evaluation_is_a_mean_over_tokens_not_over_batches():
  one = tiny.trainer()
  params = one.create().params
  batches = [tiny.batch("gpt2", seed=seed) for seed in range(3)]
  loss = weight = 0.0
  for batch in batches:
    sums = one.evaluator.step(params, batch)
    loss, weight = loss + float(sums.loss), weight + float(sums.weight)
  means = one.evaluate(params, batches)
  assert means["loss"] == pytest.approx(loss / weight, rel=1e-6)
  unweighted = np.mean([one.evaluate(params, [batch])["loss"] for batch in batches])
  assert means["loss"] != pytest.approx(unweighted, rel=1e-4)


def test_evaluation_has_no_dropout():
  one = tiny.trainer(dropout=0.5)
  params, batches = one.create().params, [tiny.batch("gpt2")]
  assert one.evaluate(params, batches) == one.evaluate(params, batches)
  none = tiny.trainer(dropout=0.0)
  assert one.evaluate(params, batches) == none.evaluate(params, batches)


def test_an_empty_evaluation_split_is_an_error():
  one = tiny.trainer()
  with pytest.raises(UserError, match="gave no batch"):
    one.evaluate(one.create().params, [])


class TestFsdp:
  def test_parameters_gather_for_use_and_rest_in_eighths(self):
    trainer = tiny.trainer(plan=tiny.on({"data": 1, "fsdp": 8}), optimizer=optax.adam(1e-3))
    batch = {
      name: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=trainer.plan.of_batch({name: s})[name])
      for name, s in trainer.batch.items()
    }
    compiled = trainer.train_step.lower(trainer.abstract, batch).compile()
    text = compiled.as_text()
    assert "all-gather" in text
    assert "all-reduce" in text or "reduce-scatter" in text
    total = sum(s.size * s.dtype.itemsize for s in jax.tree.leaves(trainer.shapes))
    assert compiled.memory_analysis().argument_size_in_bytes < total / 6

  def test_a_step_donates_its_state_leaves_arrays_where_they_were_and_compiles_once(self):
    trainer = tiny.trainer(plan=tiny.on({"data": 1, "fsdp": 8}), optimizer=optax.adam(1e-3))
    batch = trainer.plan.put_batch(tiny.batch("gpt2"))
    before = trainer.create()
    state, sums = trainer.train_step(before, batch)
    assert all(x.is_deleted() for x in jax.tree.leaves((before.params, before.opt_state)))
    for x, where in zip(jax.tree.leaves(state), jax.tree.leaves(trainer.shardings), strict=True):
      assert x.sharding.is_equivalent_to(where, x.ndim)
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(sums))
    trainer.train_step(state, batch)
    assert trainer.train_step._cache_size() == 1


def test_microbatches_on_a_mesh_equal_the_whole_batch_on_one_device():
  plan = tiny.on({"data": 2, "fsdp": 2, "tensor": 2})
  one = tiny.trainer(dropout=0.0)
  cut = tiny.trainer(plan=plan, dropout=0.0, microbatches=4)
  _, gradient, means = first_step(one, tiny.batch("gpt2"))
  _, got, got_means = first_step(cut, tiny.batch("gpt2"))
  assert distance(got, gradient) <= TOLERANCE * norm(gradient)
  np.testing.assert_allclose(got_means["loss"], means["loss"], rtol=TOLERANCE)


def test_microbatches_too_small_for_the_mesh_are_refused():
  trainer = tiny.trainer(plan=tiny.on({"data": 8}), microbatches=4)
  with pytest.raises(LayoutError, match="'data' of size 8 does not divide 'batch' = 4"):
    trainer.train_step.lower(trainer.abstract, trainer.batch)


def test_seeds_decide_parameters_and_dropout():
  base, batch = tiny.trainer(), tiny.batch("gpt2")
  params, gradient, _ = first_step(base, batch)
  again = first_step(tiny.trainer(), batch)
  jax.tree.map(np.testing.assert_array_equal, again[:2], (params, gradient))
  other = dataclasses.replace(base, seed=4).create().params
  assert not np.array_equal(other["tokens"]["embedding"], params["tokens"]["embedding"])
