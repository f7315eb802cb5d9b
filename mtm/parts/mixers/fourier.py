"""Fourier mixing (FNet, 2105.03824): a transform over tokens and features, without parameters."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.parts.context import Aux, Context


class Fourier(nn.Module):
  """The real part of the discrete Fourier transform over tokens and features, in float32.

  As in the original, every token of a row counts, padding too: a row of another length, or with
  another id as padding, gets other values. A packed document is transformed by itself; padding
  belongs to the document before it, and at the start of a row to the first one. It is bidirectional
  and has no cache.
  """

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape; segment ids must not decrease along a row."""
    z_BLD = jnp.fft.fft(x_BLD.astype(jnp.float32), axis=-1)
    if context.segments is None:
      return _whole(z_BLD).astype(x_BLD.dtype), Aux()
    document_BL = _documents(context.segments)
    # The fast transform cannot cut a row into pieces; the matmul by pieces costs what attention
    # does, and only packed rows need it.
    alone = jnp.all(document_BL[:, :1] == document_BL[:, -1:])
    y_BLD = jax.lax.cond(alone, lambda z, _: _whole(z), _by_document, z_BLD, document_BL)
    return y_BLD.astype(x_BLD.dtype), Aux()


def _documents(segments_BL: jax.Array) -> jax.Array:
  """`[batch, length]`: the document that a token is mixed with, its own or padding's neighbour."""
  segments_BL = jnp.asarray(segments_BL, jnp.int32)
  none = jnp.iinfo(jnp.int32).max
  first_B1 = jnp.min(jnp.where(segments_BL > 0, segments_BL, none), axis=1, keepdims=True)
  return jnp.maximum(jax.lax.cummax(segments_BL, axis=1), first_B1)


def _whole(z_BLD: jax.Array) -> jax.Array:
  """The transform over all tokens of each row, its real part."""
  return jnp.fft.fft(z_BLD, axis=1).real


def _by_document(z_BLD: jax.Array, document_BL: jax.Array) -> jax.Array:
  """The transform over the tokens of each document, its real part, as a matmul."""
  same_BLS = document_BL[:, :, None] == document_BL[:, None, :]
  size_BL1 = jnp.sum(same_BLS, axis=-1, keepdims=True)
  place_BL = jnp.sum(jnp.tril(same_BLS, -1), axis=-1)
  # Whole turns are taken off as integers: float32 would lose them at large products.
  turn_BLS = (place_BL[:, :, None] * place_BL[:, None, :]) % size_BL1
  angle_BLS = (2 * jnp.pi) * (turn_BLS / size_BL1)
  cosine_BLS = jnp.where(same_BLS, jnp.cos(angle_BLS), 0.0)
  sine_BLS = jnp.where(same_BLS, jnp.sin(angle_BLS), 0.0)
  return cosine_BLS @ z_BLD.real + sine_BLS @ z_BLD.imag


EXAMPLES = [Fourier()]
