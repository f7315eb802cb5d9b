"""Learning-rate schedules, against optax and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtm.errors import UserError
from mtm.training import schedules

STEPS = np.arange(0, 130)


def values(schedule):
  return np.asarray([schedule(jnp.int32(step)) for step in STEPS])


def close(found, wanted):
  # A few float32 operations; the absolute part is for cosines whose end is not exactly 0.
  np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-9)


def test_cosine_is_optax_warmup_cosine():
  wanted = optax.warmup_cosine_decay_schedule(0.0, 0.3, 20, 100, 0.03)
  close(values(schedules.cosine(0.3, 100, 20, final=0.1)), values(wanted))


def test_linear_is_optax_warmup_and_linear_joined():
  wanted = optax.join_schedules(
    [optax.linear_schedule(0.0, 0.3, 20), optax.linear_schedule(0.3, 0.06, 80)], [20]
  )
  close(values(schedules.linear(0.3, 100, 20, final=0.2)), values(wanted))


def test_wsd_is_three_optax_pieces():
  pieces = [
    optax.linear_schedule(0.0, 0.3, 20),
    optax.constant_schedule(0.3),
    optax.linear_schedule(0.3, 0.0, 30),
  ]
  close(values(schedules.wsd(0.3, 100, 30, 20)), values(optax.join_schedules(pieces, [20, 70])))


def test_wsd_with_another_shape_differs_in_the_decay_only():
  found = values(schedules.wsd(1.0, 100, 25, final=0.1, shape=schedules.one_minus_sqrt))
  np.testing.assert_array_equal(found[:76], 1.0)
  done = (STEPS[75:101] - 75) / 25
  close(found[75:101], 0.1 + 0.9 * (1 - np.sqrt(done)))
  close(found[100:], 0.1)


def test_wsd_with_a_cosine_and_no_stable_part_is_cosine():
  wsd = schedules.wsd(0.3, 100, 80, 20, shape=schedules.half_cosine)
  np.testing.assert_array_equal(values(wsd), values(schedules.cosine(0.3, 100, 20)))


def test_constant_is_constant_and_warms_up_when_asked():
  np.testing.assert_array_equal(values(schedules.constant(0.25)), 0.25)
  close(values(schedules.constant(0.25, 8)), 0.25 * np.minimum(1, STEPS / 8))


def test_inverse_sqrt_is_the_formula_of_attention_is_all_you_need():
  t = STEPS + 1
  wanted = 512**-0.5 * np.minimum(t**-0.5, t * 40**-1.5)
  found = values(schedules.inverse_sqrt(512, 40))
  close(found, wanted)
  assert np.argmax(found) == 39
  close(found[39], (512 * 40) ** -0.5)


def test_rsqrt_is_t5x_constant_times_rsqrt_decay():
  close(values(schedules.rsqrt(0.5, 30)), 0.5 / np.sqrt(np.maximum(STEPS, 30)))
  assert float(schedules.rsqrt()(0)) == pytest.approx(0.01)  # T5's first 10,000 steps


def test_warmed_up_rsqrt_is_t5x_with_linear_warmup():
  found = values(schedules.warmed_up(schedules.rsqrt(0.5, 30), 30))
  close(found, 0.5 * np.minimum(1, STEPS / 30) / np.sqrt(np.maximum(STEPS, 30)))


def test_delayed_starts_over_at_the_given_step():
  plain, late = schedules.cosine(0.3, 50, 5), schedules.delayed(schedules.cosine(0.3, 50, 5), 60)
  np.testing.assert_array_equal(values(late)[60:], values(plain)[:70])
  np.testing.assert_array_equal(values(late)[:60], values(plain)[0])


EVERY = [
  schedules.constant(0.1),
  schedules.constant(0.1, 10),
  schedules.linear(0.1, 50, 10),
  schedules.cosine(0.1, 50, 10),
  schedules.wsd(0.1, 50, 10, 10),
  schedules.inverse_sqrt(64, 10),
  schedules.rsqrt(0.1, 10),
  schedules.warmed_up(schedules.rsqrt(0.1, 10), 10),
  schedules.delayed(schedules.cosine(0.1, 50, 10), 7),
]


@pytest.mark.parametrize("schedule", EVERY)
def test_a_schedule_is_a_float32_scalar_never_negative_under_jit(schedule):
  jitted = jax.jit(schedule)
  for step in (0, 1, 9, 10, 11, 49, 50, 1_000_000):
    rate = jitted(jnp.int32(step))
    assert rate.shape == () and rate.dtype == jnp.float32 and not rate.weak_type
    assert 0.0 <= rate <= np.float32(0.1)
    np.testing.assert_allclose(schedule(step), rate, rtol=1e-6, atol=1e-9)  # XLA's fused cosine


def test_steps_that_do_not_fit_are_refused():
  with pytest.raises(UserError, match=r"cosine: warmup_steps = 100 do not fit .* = 100"):
    schedules.cosine(0.1, 100, 100)
  with pytest.raises(UserError, match="wsd: warmup_steps = 50 and decay_steps = 60 do not fit"):
    schedules.wsd(0.1, 100, 60, 50)
  with pytest.raises(UserError, match="warmup_steps = -1 must be at least 0"):
    schedules.linear(0.1, 100, -1)
  with pytest.raises(UserError, match="rsqrt: warmup_steps = 0 must be at least 1"):
    schedules.rsqrt(1.0, 0)
