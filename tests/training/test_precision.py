"""Loss scaling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.training.precision import LARGEST, LossScale, NoScale, all_finite

YES, NO = jnp.bool_(True), jnp.bool_(False)


def test_no_scale_has_no_leaves_and_changes_nothing():
  scale = NoScale()
  loss, grads = jnp.float32(3), {"a": jnp.ones(2)}
  assert not scale.dynamic and not jax.tree.leaves(scale)
  assert scale.scale(loss) is loss and scale.unscale(grads) is grads and scale.update(NO) == scale


def test_scale_doubles_after_the_period_and_only_then():
  scale = LossScale(period=3)
  values = []
  for _ in range(7):
    scale = scale.update(YES)
    values.append(float(scale.value))
  assert values == [2.0**15] * 2 + [2.0**16] * 3 + [2.0**17] * 2


def test_overflow_halves_the_scale_and_starts_the_count_anew():
  scale = LossScale(period=2).update(YES).update(NO)
  assert float(scale.value) == 2.0**14 and int(scale.finite_steps) == 0
  assert float(scale.update(YES).value) == 2.0**14
  assert float(scale.update(YES).update(YES).value) == 2.0**15


def test_scale_stays_between_one_and_the_largest():
  low, high = LossScale(1.0), LossScale(LARGEST, period=1)
  assert float(low.update(NO).value) == 1.0
  assert float(high.update(YES).value) == LARGEST


def test_unscaled_gradient_of_the_scaled_loss_is_exactly_the_gradient():
  scale = LossScale()
  x = jnp.asarray(np.random.default_rng(0).normal(size=5), jnp.float32)

  def loss(x):
    return jnp.sum(jnp.square(x))

  found = scale.unscale(jax.grad(lambda x: scale.scale(loss(x)))(x))
  np.testing.assert_array_equal(found, jax.grad(loss)(x))  # powers of two round nothing


def test_a_gradient_too_small_for_float16_survives_by_scaling():
  x = jnp.float32(1e-4)

  def loss(x, scale):  # the gradient 1e-8 is below float16's least number, 6e-8
    return scale.scale(jnp.float32(1) * (x.astype(jnp.float16) * jnp.float16(1)) * 1e-8)

  def gradient(scale):
    return float(scale.unscale(jax.grad(loss)(x, scale)))

  assert gradient(NoScale()) == 0.0
  np.testing.assert_allclose(gradient(LossScale()), 1e-8, rtol=2**-10)  # float16's rounding


def test_the_state_keeps_its_types_so_that_the_step_compiles_once():
  made = jax.jit(lambda: LossScale(1024.0, period=5))()
  after = jax.jit(lambda s: s.update(YES))(made)
  for state in (made, after):
    types = [(x.dtype, x.weak_type) for x in jax.tree.leaves(state)]
    assert types == [(jnp.float32, False), (jnp.int32, False)]
  assert after.period == 5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite_sees_one_bad_number(bad):
  tree = {"a": np.ones((2, 3), np.float32), "b": [np.zeros(4, np.float16)]}
  assert bool(all_finite(tree))
  tree["b"][0][2] = bad
  assert not bool(all_finite(tree))


def test_all_finite_of_nothing_is_true():
  assert bool(all_finite({}))


def test_a_period_below_one_is_refused():
  with pytest.raises(UserError, match="period = 0: must be at least 1"):
    LossScale(period=0)
