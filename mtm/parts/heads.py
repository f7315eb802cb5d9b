"""Output heads: hidden states → logits, in float32.

A head is called with the hidden states, the token table and whether dropout is on. One that
multiplies by the table, and that decoders have, says `tied`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.axes import constrain
from mtm.parts.dropout import Dropout
from mtm.parts.linear import Dense, Embed, Initializer, declare, normal

NormFactory = Callable[..., nn.Module]


class TiedHead(nn.Module):
  """Logits against the token table.

  Attributes:
    scale: multiplies the hidden states first (T5 1.0: 1 / √embed).
    bias: whether each token has a bias of its own (XLNet).
  """

  scale: float = 1.0
  bias: bool = False
  tied: ClassVar[bool] = True

  @nn.compact
  def __call__(self, x_BLD: jax.Array, tokens: Embed, train: bool = False) -> jax.Array:
    """`[batch, length, embed]` → `[batch, length, vocab]`."""
    del train
    x_BLD = x_BLD if self.scale == 1.0 else x_BLD * self.scale
    x_BLV = tokens.attend(x_BLD)
    if self.bias:
      bias = declare(self, "bias", jax.nn.initializers.zeros, (tokens.vocab,), ("vocab",))
      x_BLV = x_BLV + bias.astype(x_BLV.dtype)[None, None]
    return _logits(x_BLV)


class DenseHead(nn.Module):
  """Logits by a projection of its own.

  Attributes:
    vocab: number of logits.
    weight_init: kernel initialiser; None is fan-in.
  """

  vocab: int
  weight_init: Initializer | None = None

  @nn.compact
  def __call__(self, x_BLD: jax.Array, tokens: Embed, train: bool = False) -> jax.Array:
    """`[batch, length, embed]` → `[batch, length, vocab]`; `tokens` is not read."""
    del tokens, train
    dense = Dense(
      (self.vocab,), ("embed", "vocab"), weight_init=self.weight_init, name="logits_dense"
    )
    return _logits(dense(x_BLD))


class MaskedHead(nn.Module):
  """BERT's: dense, activation, norm, then the token table and a bias for each token.

  The dense layer leads to the width of the table, which may be another than that of the states.

  Attributes:
    norm: makes the norm, given `name`.
    activation: after the dense layer.
    weight_init: initialiser of the dense layer.
  """

  norm: NormFactory
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu
  weight_init: Initializer = normal(0.02)

  @nn.compact
  def __call__(self, x_BLD: jax.Array, tokens: Embed, train: bool = False) -> jax.Array:
    """`[batch, length, embed]` → `[batch, length, vocab]`."""
    del train
    dense = Dense(
      (tokens.features,), ("embed", "mlp"), bias=True, weight_init=self.weight_init, name="dense"
    )
    x_BLD = self.norm(name="norm")(self.activation(dense(x_BLD)))
    bias = declare(self, "bias", jax.nn.initializers.zeros, (tokens.vocab,), ("vocab",))
    return _logits(tokens.attend(x_BLD) + bias.astype(x_BLD.dtype)[None, None])


class PairHead(nn.Module):
  """BERT's two heads: of masked tokens, and of whether two sentences follow each other (1810.04805,
  §3.1).

  Attributes:
    masked: gives the logits of tokens.
    features: width of the states.
    classes: logits of a pair.
    weight_init: initialiser of the pair's layers.
  """

  masked: MaskedHead
  features: int
  classes: int = 2
  weight_init: Initializer = normal(0.02)

  def setup(self) -> None:
    init = self.weight_init
    self.pooler = Dense((self.features,), ("embed", "mlp"), bias=True, weight_init=init)
    self.relation = Dense((self.classes,), ("mlp", "classes"), bias=True, weight_init=init)

  def __call__(self, x_BLD: jax.Array, tokens: Embed, train: bool = False) -> jax.Array:
    """`[batch, length, embed]` → `[batch, length, vocab]`; those of the pair: `pair`."""
    del train
    if self.is_initializing():
      self.pair(x_BLD)
    return self.masked(x_BLD, tokens)

  def pair(self, x_BLD: jax.Array) -> jax.Array:
    """`[batch, length, embed]` → `[batch, classes]`, read off the first token of each row."""
    logits = self.relation(jnp.tanh(self.pooler(x_BLD[:, 0])))
    return constrain(logits.astype(jnp.float32), "batch", "classes")


class TokenClassHead(nn.Module):
  """Dense, activation, then a few logits for each token; ELECTRA (2003.10555) asks for one, whether
  the token was replaced.

  Attributes:
    classes: logits of a token.
    activation: after the dense layer.
    weight_init: initialiser of both layers.
  """

  classes: int = 1
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu
  weight_init: Initializer = normal(0.02)

  @nn.compact
  def __call__(self, x_BLD: jax.Array, tokens: Embed, train: bool = False) -> jax.Array:
    """`[batch, length, embed]` → `[batch, length, classes]`; `tokens` is not read."""
    del tokens, train
    init = self.weight_init
    dense = Dense((x_BLD.shape[-1],), ("embed", "mlp"), bias=True, weight_init=init, name="dense")
    out = Dense((self.classes,), ("mlp", "classes"), bias=True, weight_init=init, name="out")
    return _classes(out(self.activation(dense(x_BLD))))


class PooledClassHead(nn.Module):
  """Logits of a text's classes by BERT's pooler (1810.04805, §4.1): dense, tanh, dropout, dense.

  They stand at every token, and those at a text's first one, `[CLS]`, are the text's: so a packed
  row has those of all its texts. The pooler is the one of BERT's pre-training, see `PairHead`.

  Attributes:
    classes: number of logits.
    dropout: share of the pooler's outputs dropped.
    activation: after the pooler.
    weight_init: initialiser of both layers.
  """

  classes: int
  dropout: float = 0.0
  activation: Callable[[jax.Array], jax.Array] = jnp.tanh
  weight_init: Initializer = normal(0.02)

  @nn.compact
  def __call__(self, x_BLD: jax.Array, tokens: Embed, train: bool = False) -> jax.Array:
    """`[batch, length, embed]` → `[batch, length, classes]`; `tokens` is not read."""
    del tokens
    init = self.weight_init
    pooler = Dense((x_BLD.shape[-1],), ("embed", "mlp"), bias=True, weight_init=init, name="pooler")
    out = Dense((self.classes,), ("mlp", "classes"), bias=True, weight_init=init, name="out")
    x_BLD = Dropout(self.dropout)(self.activation(pooler(x_BLD)), train)
    return _classes(out(x_BLD))


class DenseClassHead(nn.Module):
  """Logits of a text's classes, as RoBERTa's code has them: dropout, dense, tanh, dropout, dense.

  Where they stand is told in `PooledClassHead`; no pre-training leaves weights for this one.
  ELECTRA's has GELU.

  Attributes:
    classes: number of logits.
    dropout: share of the states dropped, and of the first layer's outputs.
    activation: after the first layer.
    weight_init: initialiser of both layers.
  """

  classes: int
  dropout: float = 0.0
  activation: Callable[[jax.Array], jax.Array] = jnp.tanh
  weight_init: Initializer = normal(0.02)

  @nn.compact
  def __call__(self, x_BLD: jax.Array, tokens: Embed, train: bool = False) -> jax.Array:
    """`[batch, length, embed]` → `[batch, length, classes]`; `tokens` is not read."""
    del tokens
    init, drop = self.weight_init, Dropout(self.dropout)
    dense = Dense((x_BLD.shape[-1],), ("embed", "mlp"), bias=True, weight_init=init, name="dense")
    out = Dense((self.classes,), ("mlp", "classes"), bias=True, weight_init=init, name="out")
    x_BLD = self.activation(dense(drop(x_BLD, train)))
    return _classes(out(drop(x_BLD, train)))


def _classes(x_BLC: jax.Array) -> jax.Array:
  return constrain(x_BLC.astype(jnp.float32), "batch", "length", "classes")


def _logits(x_BLV: jax.Array) -> jax.Array:
  return constrain(x_BLV.astype(jnp.float32), "batch", "length", "vocab")
