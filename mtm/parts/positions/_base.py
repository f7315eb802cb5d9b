"""The position seam: three places where order can enter, each doing nothing by default."""

from __future__ import annotations

import flax.linen as nn
import jax


class Position(nn.Module):
  """No positions at all, and the base of every scheme."""

  def embed(self, x: jax.Array, positions: jax.Array) -> jax.Array:
    """Adds to the token embeddings.

    Args:
      x: `[batch, length, embed]`.
      positions: `[batch, length]` int32, restarting at 0 in each segment.

    Returns:
      `[batch, length, embed]`.
    """
    del positions
    return x

  def rotate(self, q: jax.Array, k: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Turns queries and keys, each `[batch, length, heads, head_dim]`, by their positions."""
    del positions
    return q, k

  def bias(self, q_place: jax.Array, k_place: jax.Array) -> jax.Array | None:
    """What is added to the scores, computed once and shared by all layers.

    Only differences of places may matter, so that a packed segment gets what it would get alone.

    Args:
      q_place: `[1 or batch, queries]` int32.
      k_place: `[1 or batch, keys]` int32.

    Returns:
      `[1 or batch, heads, queries, keys]`, or None for nothing.
    """
    del q_place, k_place
    return None
