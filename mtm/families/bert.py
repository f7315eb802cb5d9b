"""BERT (1810.04805): a post-norm encoder with learned positions, token types and an MLM head."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.parts.attention import Attention, head_width
from mtm.parts.heads import MaskedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.full import Full
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Block, PostNorm, Stack
from mtm.parts.transformer import Encoder, Model, Tower

exact_gelu = functools.partial(jax.nn.gelu, approximate=False)


def bert(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  max_length: int = 512,
  mlp: int | None = None,
  token_types: int = 2,
  dropout: float = 0.1,
  pattern: Pattern = Full(),  # noqa: B008 (frozen)
  kernel: Kernel | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A BERT for masked language modelling.

  Args:
    layers: number of layers.
    embed: width.
    heads: attention heads, a divisor of `embed`; each has embed / heads features.
    vocab: number of token ids.
    max_length: the longest sequence.
    mlp: hidden width of the feed-forward layer; None: 4 · embed.
    token_types: number of token types.
    dropout: share dropped of embeddings, attention probabilities and sublayer outputs.
    pattern: who sees whom.
    kernel: the attention engine; None: the best that supports the call.
    scan, remat: see `Stack`.
    dtype: compute dtype.
  """
  init = normal(0.02)
  norm = functools.partial(LayerNorm, epsilon=1e-12)
  mixer = Attention(
    heads, head_width(embed, heads), pattern=pattern, kernel=kernel, bias=True, dropout=dropout,
    weight_init=init, out_init=init,
  )  # fmt: skip
  channel = Mlp(mlp or 4 * embed, exact_gelu, bias=True, weight_init=init, out_init=init)
  block = Block(mixer, channel, norm, placement=PostNorm(), dropout=dropout)
  tower = Tower(
    Stack((block,), layers, scan, remat),
    position=Learned(max_length, embed),
    embed_norm=norm,
    token_types=Embed(token_types, embed, ("token_types", "embed"), init),
    dropout=dropout,
  )
  module = Encoder(Embed(vocab, embed, weight_init=init), tower, MaskedHead(norm, exact_gelu, init))
  return Model(module, ("encoder_input_tokens",), vocab, max_length, dtype)


EXAMPLES = [functools.partial(bert, 2, 16, 4, 40, max_length=32, mlp=24)]
