"""One step: parts add up to the big batch, an overflow changes nothing, masters stay float32."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtm.errors import UserError
from mtm.training import step as steps
from mtm.training.precision import LossScale
from mtm.types import Sums
from tests.training import tiny

# Float32 sums in another order; a GPU takes other orders for other shapes of the same product.
ROUNDING = 1e-6 if jax.default_backend() == "cpu" else 1e-5


def norm(tree):
  return float(np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in jax.tree.leaves(tree))))


def gradient_of(state):
  return jax.device_get(state.opt_state[0].trace)


@functools.cache
def trainer(microbatches, dropout=0.0):
  return tiny.trainer(dropout=dropout, microbatches=microbatches)


PADDINGS = {
  "uneven": tiny.batch("gpt2"),
  "all targets in one part": {
    **tiny.batch("gpt2"),
    "decoder_loss_weights": np.where(np.arange(tiny.ROWS)[:, None] % 4 == 1, 1, 0)
    * np.ones((1, tiny.LENGTH), np.int32),
  },
  "no target at all": {
    **tiny.batch("gpt2"),
    "decoder_loss_weights": np.zeros((tiny.ROWS, tiny.LENGTH), np.int32),
  },
}


class TestAccumulation:
  @pytest.mark.parametrize("padding", PADDINGS)
  @pytest.mark.parametrize("parts", [4, 16])
  def test_equals_the_big_batch_however_padding_falls(self, parts, padding):
    batch = PADDINGS[padding]
    whole, sums = trainer(1).train_step(trainer(1).create(), batch)
    split, split_sums = trainer(parts).train_step(trainer(parts).create(), batch)
    expected, got = gradient_of(whole), gradient_of(split)
    assert norm(jax.tree.map(np.subtract, got, expected)) <= ROUNDING * norm(expected)
    np.testing.assert_allclose(split_sums.loss, sums.loss, rtol=ROUNDING)
    assert split_sums.weight == sums.weight == batch["decoder_loss_weights"].sum()
    for name in ("accuracy", "cross_entropy", "z_loss"):
      np.testing.assert_allclose(split_sums.metrics[name], sums.metrics[name], rtol=ROUNDING)

  def test_gradients_are_those_of_the_mean_loss_over_targets(self):
    one, batch = trainer(1), PADDINGS["uneven"]
    state = one.create()

    def mean(params):
      sums = one.objective.loss(one.model.apply, params, batch)
      return sums.loss / sums.weight

    expected = jax.device_get(jax.jit(jax.grad(mean))(state.params))
    got = gradient_of(one.train_step(state, batch)[0])
    assert norm(jax.tree.map(np.subtract, got, expected)) <= ROUNDING * norm(expected)

  def test_a_step_without_targets_has_no_gradient_and_no_nan(self):
    state, sums = trainer(1).train_step(trainer(1).create(), PADDINGS["no target at all"])
    assert norm(gradient_of(state)) == 0.0
    assert all(np.isfinite(x) for x in jax.tree.leaves(jax.device_get(sums.means())))

  def test_each_part_draws_dropout_of_its_own(self):
    seen = []

    def gradients(part, key):
      seen.append(part["x"].shape)
      return {"g": jax.random.uniform(key)}, Sums(part["x"].sum(), jnp.float32(1))

    keys = jax.random.key(0)
    total, sums = steps.accumulate(gradients, {"x": jnp.arange(8.0)}, keys, 4)
    expected = sum(jax.random.uniform(jax.random.fold_in(keys, i)) for i in range(4))
    np.testing.assert_allclose(total["g"], expected, rtol=ROUNDING)
    assert sums.loss == 28 and sums.weight == 4
    assert set(seen) == {(2,)}

  def test_parts_that_do_not_divide_the_batch_are_refused(self):
    three = tiny.trainer(microbatches=3)
    with pytest.raises(UserError, match="microbatches = 3 does not divide the batch of 16"):
      three.train_step.lower(three.abstract, three.batch)


def test_a_normalizer_replaces_the_count_of_targets():
  batch = PADDINGS["uneven"]
  fixed = tiny.trainer(dropout=0.0, normalizer=7.0)
  expected = gradient_of(trainer(1).train_step(trainer(1).create(), batch)[0])
  got = gradient_of(fixed.train_step(fixed.create(), batch)[0])
  scale = batch["decoder_loss_weights"].sum() / 7.0
  wanted = jax.tree.map(lambda g: g * scale, expected)
  assert norm(jax.tree.map(np.subtract, got, wanted)) <= ROUNDING * norm(wanted)


def test_norms_are_those_of_gradient_and_new_parameters():
  state, sums = trainer(1).train_step(trainer(1).create(), PADDINGS["uneven"])
  means = jax.device_get(sums.means())
  assert float(means["gradient_norm"]) == pytest.approx(norm(gradient_of(state)), rel=1e-5)
  wanted = norm(jax.device_get(state.params))
  assert float(means["parameter_norm"]) == pytest.approx(wanted, rel=1e-5)
  assert means["skipped"] == 0


def test_dropout_changes_with_the_step_and_repeats_with_the_state():
  one = trainer(1, 0.25)
  frozen = tiny.trainer(optimizer=optax.set_to_zero(), dropout=0.25)
  batch, losses = PADDINGS["uneven"], []
  state = frozen.create()
  for _ in range(3):
    state, sums = frozen.train_step(state, batch)
    losses.append(float(sums.loss))
  assert len(set(losses)) == 3
  _, again = one.train_step(one.create(), batch)
  assert float(again.loss) == losses[0]  # the optimizer has no say in the first loss


@functools.cache
def half_trainer():
  """Adam besides, whose moments must not move on overflow either."""
  optimizer = optax.chain(optax.trace(decay=0.0), optax.adam(1e-2))
  scale = LossScale(2.0**12)
  return tiny.trainer(dtype="float16", optimizer=optimizer, dropout=0.0, loss_scale=scale)


class TestFloat16:
  def test_a_finite_step_is_that_of_float32_within_half_precision(self):
    expected = tiny.trainer(dropout=0.0)
    wanted = gradient_of(expected.train_step(expected.create(), PADDINGS["uneven"])[0])
    half = half_trainer()
    state, sums = half.train_step(half.create(), PADDINGS["uneven"])
    got = gradient_of(state)
    assert all(x.dtype == np.float32 for x in jax.tree.leaves((got, state.params)))
    # float16 has 11 bits: 5e-4 a rounding, and a few dozen of them on each path.
    assert norm(jax.tree.map(np.subtract, got, wanted)) <= 1e-2 * norm(wanted)
    assert sums.metrics["skipped"][0] == 0
    assert state.extra["loss_scale"].finite_steps == 1

  def test_an_overflow_changes_nothing_but_scale_and_step(self):
    start = half_trainer().create()
    # The largest scale: cotangents beyond 65,504 overflow in float16.
    state = dataclasses.replace(start, extra={"loss_scale": LossScale(2.0**24)})
    before = jax.device_get(state)
    after, sums = half_trainer().train_step(state, PADDINGS["uneven"])
    after = jax.device_get(after)
    assert sums.metrics["skipped"][0] == 1
    jax.tree.map(np.testing.assert_array_equal, after.params, before.params)
    jax.tree.map(np.testing.assert_array_equal, after.opt_state, before.opt_state)
    np.testing.assert_array_equal(after.rng, before.rng)
    assert after.step == before.step + 1
    assert after.extra["loss_scale"].value == 2.0**23
    assert np.isfinite(sums.loss)


def test_bfloat16_computes_with_float32_masters():
  half, full = tiny.trainer(dtype="bfloat16", dropout=0.0), trainer(1)
  state, _ = half.train_step(half.create(), PADDINGS["uneven"])
  wanted = gradient_of(full.train_step(full.create(), PADDINGS["uneven"])[0])
  got = gradient_of(state)
  assert all(x.dtype == np.float32 for x in jax.tree.leaves((got, jax.device_get(state.params))))
  # bfloat16 has 8 bits: 4e-3 a rounding; zero distance would mean that it was not used.
  assert 1e-4 < norm(jax.tree.map(np.subtract, got, wanted)) / norm(wanted) < 5e-2


def test_the_step_is_pure():
  one, batch = trainer(1), PADDINGS["uneven"]
  first, second = (one.train_step(one.create(), batch) for _ in range(2))
  jax.tree.map(np.testing.assert_array_equal, *jax.device_get((first, second)))
