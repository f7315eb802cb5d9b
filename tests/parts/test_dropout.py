"""Dropout keeps the mean, the rate and its key."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.parts.dropout import Dropout, keep_mask


@pytest.mark.parametrize("shape", [(64, 1024), (1001, 33), (7,)])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_mask_keeps_its_share(rate: float, shape: tuple[int, ...]) -> None:
  mask, keep = keep_mask(jax.random.key(0), rate, shape)
  assert mask.shape == shape and mask.dtype == bool
  assert abs(keep - (1 - rate)) <= 1 / 512, "the probability is a multiple of 1/256"
  # Five standard errors of a share of n draws.
  error = abs(float(np.mean(mask)) - keep)
  assert error <= 5 * (keep * (1 - keep) / mask.size) ** 0.5


def test_elements_are_independent() -> None:
  """Four neighbours share one 32-bit draw: none of the four bytes says anything of another."""
  mask, keep = keep_mask(jax.random.key(1), 0.5, (4096, 4))
  correlation = np.corrcoef(np.float64(mask).T) - np.eye(4)
  assert np.abs(correlation).max() < 5 / 4096**0.5


def test_mean_is_unbiased_and_evaluation_is_the_identity() -> None:
  x = jnp.ones((256, 256), jnp.bfloat16)
  drop = Dropout(0.1)
  y = drop.apply({}, x, True, rngs={"dropout": jax.random.key(0)})
  assert y.dtype == x.dtype
  assert abs(float(jnp.mean(y.astype(jnp.float32))) - 1) < 0.01
  assert drop.apply({}, x, False) is x
  assert Dropout(0.0).apply({}, x, True) is x


def test_shared_axes_have_one_draw() -> None:
  x = jnp.ones((4, 8, 16))
  y = Dropout(0.5, (1,)).apply({}, x, True, rngs={"dropout": jax.random.key(0)})
  np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1], y.shape))
  assert np.unique(y[:, 0]).size == 2
