"""Normalisation over the last axis, computed in float32 whatever the input's dtype."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.parts import linear


class LayerNorm(nn.Module):
  """(x − mean) / √(variance + epsilon) · scale + bias (Ba et al., 1607.06450).

  The variance is the mean of squared deviations: the one-pass form E[x²] − E[x]² is cheaper but
  loses every digit when the mean is large against the deviation.
  """

  epsilon: float = 1e-5
  bias: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """`[..., embed]` → the same shape and dtype."""
    shape, wide = (x.shape[-1],), x.astype(jnp.float32)
    scale = linear.declare(self, "scale", jax.nn.initializers.ones, shape, ("embed",))
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    y = centred * jax.lax.rsqrt(variance + self.epsilon) * _row(scale, x)
    if self.bias:
      bias = linear.declare(self, "bias", jax.nn.initializers.zeros, shape, ("embed",))
      y = y + _row(bias, x)
    return y.astype(x.dtype)


class RMSNorm(nn.Module):
  """x / √(mean(x²) + epsilon) · scale (Zhang and Sennrich, 1910.07467): T5's and LLaMA's norm."""

  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """`[..., embed]` → the same shape and dtype."""
    wide = x.astype(jnp.float32)
    scale = linear.declare(self, "scale", jax.nn.initializers.ones, (x.shape[-1],), ("embed",))
    power = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt(power + self.epsilon) * _row(scale, x)).astype(x.dtype)


def _row(vector: jax.Array, x: jax.Array) -> jax.Array:
  return jnp.expand_dims(vector.astype(jnp.float32), tuple(range(x.ndim - 1)))
