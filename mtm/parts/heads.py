"""Output heads: hidden states → logits, in float32."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.axes import constrain
from mtm.parts.linear import Dense, Embed, Initializer, declare, normal

NormFactory = Callable[..., nn.Module]


class TiedHead(nn.Module):
  """Logits against the token table.

  Attributes:
    scale: multiplies the hidden states first (T5 1.0: 1 / √embed).
  """

  scale: float = 1.0

  def __call__(self, x_BLD: jax.Array, tokens: Embed) -> jax.Array:
    """`[batch, length, embed]` → `[batch, length, vocab]`."""
    x_BLD = x_BLD if self.scale == 1.0 else x_BLD * self.scale
    return _logits(tokens.attend(x_BLD))


class DenseHead(nn.Module):
  """Logits by a projection of its own.

  Attributes:
    vocab: number of logits.
    weight_init: kernel initialiser; None is fan-in.
  """

  vocab: int
  weight_init: Initializer | None = None

  @nn.compact
  def __call__(self, x_BLD: jax.Array, tokens: Embed) -> jax.Array:
    """`[batch, length, embed]` → `[batch, length, vocab]`; `tokens` is not read."""
    del tokens
    dense = Dense(
      (self.vocab,), ("embed", "vocab"), weight_init=self.weight_init, name="logits_dense"
    )
    return _logits(dense(x_BLD))


class MaskedHead(nn.Module):
  """BERT's: dense, activation, norm, then the token table and a bias for each token.

  Attributes:
    norm: makes the norm, given `name`.
    activation: after the dense layer.
    weight_init: initialiser of the dense layer.
  """

  norm: NormFactory
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu
  weight_init: Initializer = normal(0.02)

  @nn.compact
  def __call__(self, x_BLD: jax.Array, tokens: Embed) -> jax.Array:
    """`[batch, length, embed]` → `[batch, length, vocab]`."""
    dense = Dense(
      (x_BLD.shape[-1],), ("embed", "mlp"), bias=True, weight_init=self.weight_init, name="dense"
    )
    x_BLD = self.norm(name="norm")(self.activation(dense(x_BLD)))
    bias = declare(self, "bias", jax.nn.initializers.zeros, (tokens.vocab,), ("vocab",))
    return _logits(tokens.attend(x_BLD) + bias.astype(x_BLD.dtype)[None, None])


def _logits(x_BLV: jax.Array) -> jax.Array:
  return constrain(x_BLV.astype(jnp.float32), "batch", "length", "vocab")
