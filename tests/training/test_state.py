"""The state: its keys come from the seed and the step alone."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtm.training.state import create, step_key

PARAMS = {"w": jnp.ones((2, 3))}


def state(seed=0, step=0):
  made = create(PARAMS, optax.adam(1e-3), seed, {"loss_scale": jnp.float32(8)})
  return dataclasses.replace(made, step=jnp.int32(step))


def test_it_begins_at_step_zero_with_a_fresh_optimizer():
  made = state()
  assert made.step == 0 and made.step.dtype == jnp.int32
  assert made.opt_state[0].count == 0
  jax.tree.map(np.testing.assert_array_equal, made.params, PARAMS)
  assert made.extra == {"loss_scale": 8}


def test_it_is_a_pytree():
  doubled = jax.tree.map(lambda x: x * 2, state(step=3))
  assert doubled.step == 6 and doubled.extra["loss_scale"] == 16
  np.testing.assert_array_equal(doubled.params["w"], 2 * PARAMS["w"])


def test_every_step_and_every_seed_has_a_key_of_its_own():
  keys = {
    tuple(np.asarray(jax.random.key_data(step_key(state(seed, step)))).tolist())
    for seed in range(3)
    for step in range(5)
  }
  assert len(keys) == 15


def test_a_key_depends_on_nothing_else():
  other = dataclasses.replace(state(2, 7), params={"w": jnp.zeros((2, 3))}, extra={})
  assert step_key(other) == step_key(state(2, 7))


def test_dropout_does_not_reuse_the_key_of_the_parameters():
  assert not np.array_equal(state(5).rng, jax.random.key_data(jax.random.key(5)))


def test_the_key_is_stored_as_plain_numbers_that_a_checkpoint_can_hold():
  assert state().rng.dtype == jnp.uint32
