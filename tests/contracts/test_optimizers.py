"""What every optimizer keeps, whatever its rule: run by discovery over the modules' `EXAMPLES`."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtm.errors import UserError
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training.optimizers import Group
from mtm.training.optimizers._base import NOT_DECAYED, path_of
from tests.contracts.discovered import examples
from tests.training.optimizers import trees

CASES = examples("mtm.training.optimizers", quick=1)
PLAIN = dict(weight_decay=0.0)
every = pytest.mark.parametrize("example", CASES)


def first_update(optimizer, gradients=None):
  """Path → (update, parameter) of one step."""
  params = trees.stacked(0)
  gradients = trees.stacked(1) if gradients is None else gradients
  updates, _ = optimizer.update(gradients, optimizer.init(params), params)
  flat = jax.tree_util.tree_flatten_with_path(updates)[0]
  return {path_of(k): (u, p) for (k, u), p in zip(flat, jax.tree.leaves(params), strict=True)}


@functools.cache  # most tests compare with it
def plain_update(example):
  return first_update(example(0.25, **PLAIN))


def types(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


@every
def test_the_state_is_arrays_whose_shapes_and_types_never_change(example):
  optimizer = example(optax.constant_schedule(0.1), weight_decay=0.1, clip_norm=1.0)
  params = trees.stacked(0)
  assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(optimizer.init(params)))
  state = jax.eval_shape(optimizer.init, params)
  updates, after = jax.eval_shape(optimizer.update, params, state, params)
  assert jax.tree.structure(after) == jax.tree.structure(state)
  assert types(after) == types(state)  # else the training step would be compiled again
  assert types(updates) == types(params)


@every
def test_zero_gradients_and_zero_parameters_stay_finite(example):
  optimizer = example(0.1, weight_decay=0.1, clip_norm=1.0)
  zeros = jax.tree.map(jnp.zeros_like, trees.stacked(0))
  for params, steps in ((trees.stacked(0), 2), (zeros, 1)):
    after = trees.walk(optimizer, params, [zeros] * steps)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(after))


@every
def test_it_descends_a_convex_quadratic(example):
  optimizer = example(0.05, **PLAIN)
  target, params = (trees.flat(seed, (6, 10), (12, 5)) for seed in (2, 3))

  def loss(params):
    return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(optax.tree.sub(params, target)))

  @jax.jit
  def many(params):
    def step(carry, _):
      params, state = carry
      value, gradient = jax.value_and_grad(loss)(params)
      updates, state = optimizer.update(gradient, state, params)
      return (optax.apply_updates(params, updates), state), value

    return jax.lax.scan(step, (params, optimizer.init(params)), None, length=60)[1]

  losses = many(params)
  assert losses[-1] < losses[0] * 0.999  # LARS at its own trust coefficient goes slowly
  assert jnp.all(losses[1:] < losses[0])


@every
def test_a_stack_takes_the_same_step_as_layers_apart(example):
  optimizer = example(0.1, weight_decay=0.1)
  gradients = [trees.stacked(seed) for seed in (1, 2)]
  found = trees.apart(trees.walk(optimizer, trees.stacked(0), gradients))
  start = trees.apart(trees.stacked(0))
  wanted = trees.walk(optimizer, start, [trees.apart(g) for g in gradients])
  # One layer's sums may be taken in another order under vmap: a few units in the last place.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), found, wanted)


@every
def test_weight_decay_spares_biases_scales_and_position_tables(example):
  zeros = jax.tree.map(jnp.zeros_like, trees.stacked(0))
  moved = first_update(example(0.1, weight_decay=0.1), zeros)
  for path, (update, parameter) in moved.items():
    if re.search(NOT_DECAYED, path):
      np.testing.assert_array_equal(update, 0.0, path)
    else:
      assert jnp.all(update * parameter < 0), path


@every
def test_groups_turn_weight_decay_on_and_off(example):
  zeros = jax.tree.map(jnp.zeros_like, trees.stacked(0))
  groups = [Group("wi|tokens", weight_decay=0.0), Group("scale$", weight_decay=1.0)]
  moved = first_update(example(0.1, weight_decay=0.1, groups=groups), zeros)
  still = {path for path, (update, _) in moved.items() if not jnp.any(update)}
  assert still == {path for path in moved if re.search("wi|tokens|bias|rel_embedding", path)}


@every
def test_groups_multiply_learning_rates(example):
  groups = [Group("mixer", learning_rate=0.5), Group("out", learning_rate=0.0)]
  found = first_update(example(0.25, **PLAIN, groups=groups))
  for path, (update, _) in plain_update(example).items():
    factor = 0.0 if "out" in path else 0.5 if "mixer" in path else 1.0
    np.testing.assert_allclose(found[path][0], factor * update, rtol=1e-6, atol=1e-9, err_msg=path)


@every
def test_clipping_is_by_the_norm_of_all_gradients_together(example):
  gradients = trees.stacked(1)
  factor = 0.5 / optax.tree.norm(gradients)
  scaled = jax.tree.map(lambda g: g * factor, gradients)
  found = first_update(example(0.25, **PLAIN, clip_norm=0.5))
  wanted = first_update(example(0.25, **PLAIN), scaled)
  for path, (update, _) in found.items():
    np.testing.assert_allclose(update, wanted[path][0], rtol=1e-4, atol=1e-6, err_msg=path)
  loose = first_update(example(0.25, **PLAIN, clip_norm=1e6))
  for path, (update, _) in loose.items():
    np.testing.assert_allclose(update, plain_update(example)[path][0], rtol=1e-5, atol=1e-9)


@every
def test_a_schedule_is_read_at_the_number_of_steps_before(example):
  optimizer = example(lambda step: jnp.where(step == 1, 0.25, 0.0), **PLAIN)
  starts = trees.stacked(0)
  after_one = trees.walk(optimizer, starts, [trees.stacked(1)])
  jax.tree.map(np.testing.assert_array_equal, after_one, starts)
  after_two = trees.walk(optimizer, starts, [trees.stacked(1), trees.stacked(2)])
  assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.any(a != b)), after_two, starts)))


@every
def test_a_group_that_matches_nothing_is_refused(example):
  with pytest.raises(UserError, match="group 'logits_dens/kernel' .*'head/logits_dense/kernel'"):
    example(0.1, groups=[Group("logits_dens/kernel")]).init(trees.stacked(0))


@every
def test_slots_lie_on_the_mesh_as_their_parameters_do(example):
  plan = Plan(mesh(data=2, fsdp=2, tensor=2))
  optimizer, params = example(0.1, weight_decay=0.1, clip_norm=1.0), trees.stacked(0)
  where = plan.of_params(trees.names(), params)
  shapes = jax.eval_shape(optimizer.init, params)
  slots = plan.of_state(shapes, params, where)
  for slot, sharding in zip(jax.tree.leaves(shapes), jax.tree.leaves(slots), strict=True):
    whole = sharding.is_fully_replicated
    # What is as large as a layers' matrix is cut; counts, placeholders and vectors may be whole.
    assert not whole or slot.size < trees.LAYERS * 8 * 10, (slot.shape, sharding.spec)
  state = jax.device_put(optimizer.init(params), slots)
  gradients = jax.device_put(trees.stacked(1), where)
  update = plan.jit(optimizer.update, out_shardings=(where, slots))
  cut, _ = update(gradients, state, jax.device_put(params, where))
  one, _ = optimizer.update(trees.stacked(1), optimizer.init(params), params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), cut, one)
