"""Dropout whose mask costs less than reading what it masks, and is the same on every mesh."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


def keep_mask(key: jax.Array, rate: float, shape: tuple[int, ...]) -> tuple[jax.Array, float]:
  """A boolean mask that keeps an element with probability 1 − rate, and that probability.

  Args:
    key: a PRNG key.
    rate: the share to drop, in [0, 1), rounded to a multiple of 2⁻³².
    shape: the mask's shape, `[..., columns]`.

  Returns:
    the mask, and the probability as rounded, for the caller to divide by.
  """
  least, probability = threshold(rate)
  return draws(key, shape) >= least, probability


def threshold(rate: float) -> tuple[jax.Array, float]:
  """The least word of `draws` that is kept, uint32, and the probability that one is."""
  dropped = min(max(round(rate * 2**32), 1), 2**32 - 1)
  return jnp.uint32(dropped), 1.0 - dropped / 2**32


def draws(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Uniform 32-bit words, uint32 of this shape, `[..., columns]`.

  Each element's place is hashed under the key: a dozen integer operations that fuse into the loop
  that needs the words, where threefry takes 150 and passes of its own, more time than the matmul
  before it. An element depends on the key and its place only, never on the mesh.
  """
  *leading, columns = shape or (1,)
  row = jnp.zeros((*leading, 1), jnp.uint32)
  for axis, size in enumerate(leading):
    row = row * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, row.shape, axis)
  column = jnp.expand_dims(jnp.arange(columns, dtype=jnp.uint32), tuple(range(len(leading))))
  return words(key, row, column).reshape(shape)


def words(key: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
  """The words at some places of what `draws` gives: uint32, broadcast from `row` and `column`.

  Args:
    key: a PRNG key.
    row: uint32, the place among all rows, counted through all axes but the last.
    column: uint32, the place along the last axis.
  """
  row_key, column_key = jax.random.bits(key, (2,), jnp.uint32)
  # An odd multiplier permutes the columns over all 32 bits, so that XOR mixes more than low ones.
  column = column * jnp.uint32(0x9E3779B1) + column_key
  return _hash(_hash(row + row_key) ^ column)


def _hash(x: jax.Array) -> jax.Array:
  """A permutation of 32-bit words in which every input bit flips every output bit about half the
  time (C. Wellons, hash-prospector, 2018: "lowbias32")."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
  x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
  return x ^ (x >> 16)


class Dropout(nn.Module):
  """Zeroes a share `rate` of `x` in training and scales the rest so that the mean stays.

  Attributes:
    rate: the share to drop, in [0, 1).
    shared: axes along which one draw is shared (T5 shares it along length).
  """

  rate: float
  shared: tuple[int, ...] = ()

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    if not train or self.rate == 0.0:
      return x
    shape = tuple(1 if i in self.shared else n for i, n in enumerate(x.shape))
    keep, probability = keep_mask(self.make_rng("dropout"), self.rate, shape)
    return jnp.where(keep, x / jnp.asarray(probability, x.dtype), jnp.zeros((), x.dtype))
