"""T5's bucketed relative bias (1910.10683, §2.1)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from mtm.parts.linear import Initializer, declare, normal
from mtm.parts.positions._base import Position


class T5Bias(Position):
  """One trained scalar for each head and bucket of distances; buckets widen with the logarithm.

  Attributes:
    heads: number of heads.
    bidirectional: whether keys after the query have buckets of their own (encoders).
    buckets: number of buckets.
    max_distance: distances from here on share the last bucket.
    weight_init: initialiser of the table.
  """

  heads: int
  bidirectional: bool
  buckets: int = 32
  max_distance: int = 128
  weight_init: Initializer = normal(1.0)

  def setup(self) -> None:
    self.rel_embedding = declare(
      self,
      "rel_embedding",
      self.weight_init,
      (self.heads, self.buckets),
      ("heads", "relpos_buckets"),
    )

  def bias(self, q_place, k_place):
    away = k_place[:, None, :] - q_place[:, :, None]
    bucket = bucket_of(away, self.bidirectional, self.buckets, self.max_distance)
    return jnp.moveaxis(jnp.take(self.rel_embedding, bucket, axis=1), 0, 1)


def bucket_of(
  away: jax.Array, bidirectional: bool, buckets: int = 32, max_distance: int = 128
) -> jax.Array:
  """The bucket of `away` = key place − query place.

  Half of the buckets hold one distance each; the others grow geometrically up to `max_distance`.
  """
  offset = jnp.zeros_like(away)
  if bidirectional:
    buckets //= 2
    offset = jnp.where(away > 0, buckets, 0)
    distance = jnp.abs(away)
  else:
    distance = jnp.maximum(-away, 0)
  exact = buckets // 2
  ratio = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact)
  wide = exact + (ratio / math.log(max_distance / exact) * (buckets - exact)).astype(jnp.int32)
  return offset + jnp.where(distance < exact, distance, jnp.minimum(wide, buckets - 1))


EXAMPLES = [T5Bias(heads=4, bidirectional=False), T5Bias(heads=4, bidirectional=True)]
