"""T5 1.0 (1910.10683) and 1.1 (2002.05202): an encoder-decoder with bucketed relative positions.

Scores are not divided by √head_dim: the query initialiser absorbs it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.parts.attention import Attention, CrossAttention
from mtm.parts.heads import DenseHead, TiedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, fan_in_of, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import RMSNorm
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.positions.t5_bias import T5Bias
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import EncoderDecoder, Model, Tower

_SHARED = (1,)  # one dropout draw along length


def t5(
  layers: int,
  embed: int,
  heads: int,
  head_dim: int,
  mlp: int,
  vocab: int,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
  gated: bool = True,
  tied: bool = False,
  kernel: Kernel | None = None,
  encoder_pattern: Pattern = Full(),  # noqa: B008 (frozen)
  decoder_layers: int | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A T5; the defaults are T5 1.1's. T5 1.0: `activation=jax.nn.relu, gated=False, tied=True`.

  Args:
    layers: encoder layers.
    embed: width.
    heads: attention heads.
    head_dim: features of a head; heads · head_dim need not be `embed`.
    mlp: hidden width of the feed-forward layer.
    vocab: number of token ids.
    dropout: share dropped of embeddings, attention probabilities, hidden and sublayer outputs.
    activation: of the feed-forward layer.
    gated: whether a second projection gates it.
    tied: whether the head is the token table, with states scaled by 1 / √embed.
    kernel: the attention engine; None: the best that supports the call.
    encoder_pattern: who sees whom in the encoder.
    decoder_layers: None: as many as `layers`.
    scan, remat: see `Stack`.
    dtype: compute dtype.
  """
  fan_in = fan_in_of(1)
  norm = functools.partial(RMSNorm, epsilon=1e-6)
  attention: Callable[..., dict[str, Any]] = functools.partial(
    dict, heads=heads, head_dim=head_dim, kernel=kernel, scale=1.0, dropout=dropout,
    weight_init=fan_in, query_init=fan_in_of(1, 1 / head_dim), out_init=fan_in_of(2),
  )  # fmt: skip

  def block(pattern: Pattern, cross: CrossAttention | None) -> Block:
    channel = Mlp(mlp, activation, gated, dropout=dropout, weight_init=fan_in, out_init=fan_in)
    mixer = Attention(pattern=pattern, **attention())
    return Block(mixer, channel, norm, cross, dropout=dropout, dropout_shared=_SHARED)

  def tower(one: Block, repeats: int, bidirectional: bool) -> Tower:
    return Tower(
      Stack((one,), repeats, scan, remat),
      position=T5Bias(heads, bidirectional, weight_init=normal(1.0)),
      final_norm=norm,
      dropout=dropout,
      dropout_shared=_SHARED,
      final_dropout=True,
    )

  module = EncoderDecoder(
    tokens=Embed(vocab, embed, weight_init=normal(1.0)),
    encoder=tower(block(encoder_pattern, None), layers, True),
    decoder=tower(block(Causal(), CrossAttention(**attention())), decoder_layers or layers, False),
    head=TiedHead(embed**-0.5) if tied else DenseHead(vocab),
  )
  return Model(module, ("encoder_input_tokens", "decoder_input_tokens"), vocab, None, dtype)


EXAMPLES = [
  functools.partial(t5, 2, 16, 4, 8, 24, 40),
  functools.partial(
    t5, 1, 16, 2, 4, 24, 40, activation=jax.nn.relu, gated=False, tied=True, decoder_layers=2
  ),
]
