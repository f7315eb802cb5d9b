"""Activations that `jax.nn` lacks or hides behind a flag, each a function that gin can name."""

from __future__ import annotations

import jax


def gelu(x: jax.Array) -> jax.Array:
  """x · Φ(x) with the exact normal distribution (1606.08415); `jax.nn.gelu` approximates it."""
  return jax.nn.gelu(x, approximate=False)


def quick_gelu(x: jax.Array) -> jax.Array:
  """x · σ(1.702 x), an approximation of GELU (1606.08415)."""
  return x * jax.nn.sigmoid(1.702 * x)
