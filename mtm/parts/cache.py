"""The key-value cache of attention: a row of slots, written in order, read under the pattern.

All examples write the same slots at the same time, wherever in their sequences they stand: one
contiguous update in place. Or each row says where it writes, so that rows of different ages share a
cache. What position a slot's token has is told beside the cache, so prompts of different lengths
decode together without left padding; a slot that holds padding, or nothing yet, gets a position
after every query, which a causal pattern never shows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtm.parts import _cpu
from mtm.parts.context import Slots


class KeyValue(NamedTuple):
  """Keys and values of one layer, `[batch, kv_heads, slots, head_dim]` each.

  Heads stand before slots, as the matmuls of attention read them: the other way the whole cache
  would be transposed for every token.
  """

  k: jax.Array
  v: jax.Array

  @classmethod
  def of(cls, k: jax.Array, v: jax.Array) -> KeyValue:
    """From keys and values `[batch, slots, kv_heads, head_dim]`."""
    return cls(_cpu.in_order(jnp.swapaxes(k, 1, 2)), _cpu.in_order(jnp.swapaxes(v, 1, 2)))

  def store(
    self, k: jax.Array, v: jax.Array, slots: Slots
  ) -> tuple[KeyValue, jax.Array, jax.Array, jax.Array]:
    """Adds keys and values `[batch, length, kv_heads, head_dim]` of the next tokens.

    Returns the new cache, its keys and values as `rows` does, and their positions `[1 or batch,
    slots]`.
    """
    new = write(self, k, v, slots.start)
    return new, *new.rows(), slots.positions

  def rows(self) -> tuple[jax.Array, jax.Array]:
    """Keys and values `[batch, slots, kv_heads, head_dim]`, as kernels take them."""
    return jnp.swapaxes(self.k, 1, 2), jnp.swapaxes(self.v, 1, 2)


def empty(batch: int, slots: int, heads: int, width: int, dtype: Any) -> KeyValue:
  """A cache of zeros."""
  zeros = jnp.zeros((batch, heads, slots, width), dtype)
  return KeyValue(zeros, zeros)


def write(cache: KeyValue, k: jax.Array, v: jax.Array, start: jax.Array) -> KeyValue:
  """The cache with `k`, `v` `[batch, length, kv_heads, head_dim]` in the slots from `start` on.

  `start` is an int32 scalar, or one a row, `[batch]`; `start + length` must not exceed the slots.
  """

  def put(old: jax.Array, new: jax.Array) -> jax.Array:
    zero, new = jnp.zeros((), start.dtype), new.astype(old.dtype)
    if start.ndim:
      one = jax.lax.dynamic_update_slice
      return jax.vmap(lambda row, add, at: one(row, add, (zero, at, zero)))(old, new, start)
    return jax.lax.dynamic_update_slice(old, new, (zero, zero, start, zero))

  return KeyValue(*jax.tree.map(put, tuple(cache), tuple(KeyValue.of(k, v))))
