"""The key-value cache of attention: written at each token's own position, read under the pattern.

Every example has its own positions, so prompts of different lengths decode together without left
padding. A slot holds the key of the position with its number; under a causal pattern a slot beyond
the query is invisible, and whatever stale key it holds is overwritten before it can be seen.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class KeyValue(NamedTuple):
  """Keys and values of one layer, `[batch, slots, kv_heads, head_dim]` each."""

  k: jax.Array
  v: jax.Array


def empty(batch: int, slots: int, heads: int, width: int, dtype: Any) -> KeyValue:
  """A cache of zeros."""
  zeros = jnp.zeros((batch, slots, heads, width), dtype)
  return KeyValue(zeros, zeros)


def write(cache: KeyValue, k: jax.Array, v: jax.Array, positions: jax.Array) -> KeyValue:
  """The cache with `k`, `v` `[batch, length, kv_heads, head_dim]` at `positions` `[batch, length]`.

  A position outside the cache is dropped: so a decoder can send padding nowhere.
  """
  rows = jnp.arange(k.shape[0])[:, None]

  def put(old: jax.Array, new: jax.Array) -> jax.Array:
    return old.at[rows, positions].set(new.astype(old.dtype), mode="drop")

  return KeyValue(put(cache.k, k), put(cache.v, v))
