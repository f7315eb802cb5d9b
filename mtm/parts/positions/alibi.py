"""Attention with linear biases (ALiBi, 2108.12409)."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from mtm.parts.positions._base import Position


class Alibi(Position):
  """Subtracts slope · distance from the scores; each head has its own slope.

  Attributes:
    heads: number of heads.
  """

  heads: int

  def bias(self, q_place, k_place):
    distance = jnp.abs(q_place[:, None, :, None] - k_place[:, None, None, :]).astype(jnp.float32)
    return -jnp.asarray(slopes(self.heads))[None, :, None, None] * distance


def slopes(heads: int) -> np.ndarray:
  """A geometric series from 2^(−8/n) for a power of two n; other counts interleave the next one."""
  power = 2 ** int(math.floor(math.log2(heads)))
  series = 2.0 ** (-8.0 / power * np.arange(1, power + 1))
  between = 2.0 ** (-4.0 / power * np.arange(1, 2 * (heads - power), 2))
  return np.concatenate([series, between]).astype(np.float32)


EXAMPLES = [Alibi(heads=4), Alibi(heads=6)]
