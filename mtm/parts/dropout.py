"""Dropout whose mask costs a quarter of the random bits and is the same on every mesh."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp


def keep_mask(key: jax.Array, rate: float, shape: tuple[int, ...]) -> tuple[jax.Array, float]:
  """A boolean mask that keeps an element with probability about 1 − rate, and that probability.

  Each element compares one random byte with a threshold: four elements share a 32-bit draw, for
  drawing costs more than the matmul before it. So the probability is a multiple of 1/256; it is
  returned exactly, for the caller to divide by, and the mean stays unbiased. The bits depend on the
  key and shape only (partitionable threefry), never on the mesh.

  Args:
    key: a PRNG key.
    rate: the share to drop, in [0, 1).
    shape: the mask's shape.
  """
  dropped = min(max(round(rate * 256), 1), 255)
  size = math.prod(shape)
  if shape and shape[-1] % 4 == 0:
    words = jax.random.bits(key, shape[:-1] + (shape[-1] // 4,), jnp.uint32)
    draws = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(shape)
  else:
    words = jax.random.bits(key, (-(-size // 4),), jnp.uint32)
    draws = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:size].reshape(shape)
  return draws >= jnp.uint8(dropped), 1.0 - dropped / 256


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
