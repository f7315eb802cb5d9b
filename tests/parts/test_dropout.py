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
  assert abs(keep - (1 - rate)) <= 2**-32
  # Five standard errors of a share of n draws.
  error = abs(float(np.mean(mask)) - keep)
  assert error <= 5 * (keep * (1 - keep) / mask.size) ** 0.5


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("lag", [1, 2, 4, 16, 32])
def test_neighbours_are_independent(axis: int, lag: int) -> None:
  """Elements at a distance keep together no more often than chance has it: the mask is a hash of
  the place, and a bad one shows along powers of two."""
  mask, keep = keep_mask(jax.random.key(1), 0.1, (64, 64, 64))
  mask = np.asarray(mask)
  both = mask & np.roll(mask, lag, axis)
  # Five standard errors of a share of n draws.
  assert abs(both.mean() - keep**2) < 5 * (keep**2 * (1 - keep**2) / mask.size) ** 0.5


def test_close_keys_are_independent() -> None:
  """A step's key and the next one's differ in one bit before they are hashed."""
  masks = np.stack([keep_mask(jax.random.key(n), 0.5, (64, 64))[0].ravel() for n in range(16)])
  correlation = np.corrcoef(np.float64(masks)) - np.eye(16)
  assert np.abs(correlation).max() < 5 / 64  # five standard errors of 4096 draws


def test_columns_of_all_rows_are_balanced() -> None:
  """No row and no column is favoured: their shares scatter as those of independent draws do."""
  mask, keep = keep_mask(jax.random.key(3), 0.25, (1024, 1024))
  for axis in (0, 1):
    z = (np.asarray(mask).mean(axis) - keep) / (keep * (1 - keep) / 1024) ** 0.5
    assert 0.85 < z.std() < 1.15  # 1 ± 6 standard errors of a deviation from 1024 values
    assert np.abs(z).max() < 5.5


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
