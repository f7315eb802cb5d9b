"""A key-value cache that keeps only what the pattern can still see: a window's cache is a ring.

Unlike in `mtm.parts.cache`, a token's slot follows from its position, so that examples at different
positions write different slots, and each slot says which position it holds.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mtm.parts.context import Slots
from mtm.parts.patterns._lifetimes import Lifetimes
from mtm.types import BEYOND


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SparseKeyValue:
  """Keys and values of one layer.

  Attributes:
    k, v: `[batch, slots, kv_heads, head_dim]`.
    places: `[batch, slots]` int32, the position of each slot's token; `BEYOND` where there is none.
    lifetimes: which slot a position has, and until when it is needed.
  """

  k: jax.Array
  v: jax.Array
  places: jax.Array
  lifetimes: Lifetimes = dataclasses.field(metadata={"static": True})

  def store(
    self, k: jax.Array, v: jax.Array, slots: Slots
  ) -> tuple[SparseKeyValue, jax.Array, jax.Array, jax.Array]:
    """Adds the keys and values of the next tokens.

    Args:
      k, v: `[batch, length, kv_heads, head_dim]`.
      slots: where all layers put these tokens, and so their positions.

    Returns:
      the new cache; keys and values that the tokens' queries may see, `[batch, keys, kv_heads,
      head_dim]`; and their positions `[batch, keys]`.
    """
    batch, length = k.shape[:2]
    places = jnp.broadcast_to(slots.own(length), (batch, length))
    if length == 1:  # what it overwrites ended before this token
      new = self._put(k, v, places, places)
      return new, new.k, new.v, new.places
    k_all, v_all = (jnp.concatenate(pair, axis=1) for pair in ((self.k, k), (self.v, v)))
    ends = jnp.max(jnp.where(places < BEYOND, places, -1), axis=1, keepdims=True)
    k_place = jnp.concatenate([self.places, places], axis=1)
    return self._put(k, v, places, ends), k_all, v_all, k_place

  def _put(self, k: jax.Array, v: jax.Array, places: jax.Array, ends: jax.Array) -> SparseKeyValue:
    """The tokens at `places` `[batch, length]` that a query after `ends` `[batch, 1]`, or the last
    one itself, sees go to their slots; of those that are kept no two share one."""
    slot, last = (jnp.asarray(x) for x in (self.lifetimes.slot, self.lifetimes.last))
    known = jnp.clip(places, 0, len(slot) - 1)
    kept = (places < BEYOND) & ((last[known] > ends) | (places == ends))
    where = jnp.where(kept, slot[known], self.places.shape[1])  # out of bounds: dropped
    rows = jnp.arange(k.shape[0])[:, None]

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
      return old.at[rows, where].set(new.astype(old.dtype), mode="drop")

    return dataclasses.replace(
      self, k=put(self.k, k), v=put(self.v, v), places=put(self.places, places)
    )


def empty(batch: int, lifetimes: Lifetimes, heads: int, width: int, dtype: Any) -> SparseKeyValue:
  """A cache without tokens."""
  zeros = jnp.zeros((batch, lifetimes.slots, heads, width), dtype)
  places = jnp.full((batch, lifetimes.slots), BEYOND, jnp.int32)
  return SparseKeyValue(zeros, zeros, places, lifetimes)
