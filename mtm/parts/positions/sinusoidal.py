"""Sinusoidal absolute positions (Vaswani et al., 1706.03762)."""

from __future__ import annotations

import jax.numpy as jnp

from mtm.parts.positions._base import Position


class Sinusoidal(Position):
  """Adds sin(p / base^(2i/embed)) at feature 2i and the cosine at 2i + 1.

  Attributes:
    base: the wavelengths go from 2π to 2π · base.
    interleaved: False puts all sines first, at feature i, and the cosines after them (PEGASUS).
  """

  base: float = 10_000.0
  interleaved: bool = True

  def embed(self, x, positions):
    width = x.shape[-1]
    pairs = (width + 1) // 2  # of an odd width the last sine has no cosine
    frequency = self.base ** (-2 * jnp.arange(pairs, dtype=jnp.float32) / width)
    angle = positions[..., None].astype(jnp.float32) * frequency[None, None]
    join = jnp.stack if self.interleaved else jnp.concatenate
    waves = join([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    waves = waves.reshape(*positions.shape, -1)[..., :width]
    return x + waves.astype(x.dtype)


EXAMPLES = [Sinusoidal(), Sinusoidal(interleaved=False)]
