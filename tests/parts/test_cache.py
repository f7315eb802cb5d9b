"""The key-value cache writes the slots it is told, and nothing else."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mtm.parts.cache import KeyValue, empty, write


def test_slots_are_written_from_start_on() -> None:
  cache = empty(2, 5, 1, 3, jnp.float32)
  k = jnp.arange(12.0).reshape(2, 2, 1, 3) + 1
  new = write(cache, k, -k, jnp.int32(2))
  wanted = np.zeros((2, 5, 1, 3), np.float32)
  wanted[:, 2:4] = k
  np.testing.assert_array_equal(new.rows()[0], wanted)
  np.testing.assert_array_equal(new.rows()[1], -wanted)


def test_each_row_may_say_where_it_writes() -> None:
  cache = empty(2, 5, 1, 3, jnp.float32)
  k = jnp.arange(12.0).reshape(2, 2, 1, 3) + 1
  new = write(cache, k, -k, jnp.array([3, 0], jnp.int32))
  wanted = np.zeros((2, 5, 1, 3), np.float32)
  wanted[0, 3:], wanted[1, :2] = k[0], k[1]
  np.testing.assert_array_equal(new.rows()[0], wanted)
  np.testing.assert_array_equal(new.rows()[1], -wanted)


def test_keys_keep_the_dtype_of_the_cache() -> None:
  ones = jnp.ones((1, 1, 2, 3))
  new = write(empty(1, 2, 2, 3, jnp.bfloat16), ones, ones, jnp.int32(1))
  assert new.k.dtype == new.v.dtype == jnp.bfloat16
  np.testing.assert_array_equal(new.k[0, 0, :, 0], [0, 1])


def test_of_and_rows_are_inverse() -> None:
  k = jnp.arange(24.0).reshape(2, 3, 2, 2)
  kept = KeyValue.of(k, -k)
  assert kept.k.shape == (2, 2, 3, 2)
  np.testing.assert_array_equal(kept.rows()[0], k)
  np.testing.assert_array_equal(kept.rows()[1], -k)
