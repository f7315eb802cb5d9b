"""Rotary positions (RoFormer, 2104.09864)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mtm.errors import UserError
from mtm.parts.positions._base import Position


class Rotary(Position):
  """Turns pairs of features by an angle proportional to the position.

  Pairs are (i, i + head_dim/2), LLaMA's published layout; angles are computed in float32.

  Attributes:
    base: the longest wavelength is about 2π · base tokens.
  """

  base: float = 10_000.0

  def rotate(self, q, k, positions):
    if q.shape[-1] % 2:
      raise UserError(f"rotary positions turn pairs of features: head_dim = {q.shape[-1]} is odd")
    half = q.shape[-1] // 2
    frequency = self.base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[..., None].astype(jnp.float32) * frequency[None, None]
    cos, sin = jnp.cos(angle)[:, :, None, :], jnp.sin(angle)[:, :, None, :]
    return _turn(q, cos, sin), _turn(k, cos, sin)


def _turn(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


EXAMPLES = [Rotary(), Rotary(base=500.0)]
