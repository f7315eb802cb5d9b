"""The key-value cache writes where positions say, and nowhere else."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mtm.parts.cache import empty, write


def test_each_row_is_written_at_its_own_positions() -> None:
  cache = empty(2, 5, 1, 3, jnp.float32)
  k = jnp.arange(12.0).reshape(2, 2, 1, 3) + 1
  new = write(cache, k, -k, jnp.array([[1, 2], [4, 0]]))
  wanted = np.zeros((2, 5, 1, 3), np.float32)
  wanted[0, [1, 2]], wanted[1, [4, 0]] = k[0], k[1]
  np.testing.assert_array_equal(new.k, wanted)
  np.testing.assert_array_equal(new.v, -wanted)


def test_a_position_outside_is_dropped() -> None:
  cache = write(empty(1, 3, 1, 2, jnp.float32), *[jnp.ones((1, 2, 1, 2))] * 2, jnp.array([[0, 3]]))
  np.testing.assert_array_equal(cache.k[0, :, 0, 0], [1, 0, 0])
