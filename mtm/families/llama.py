"""LLaMA (2302.13971, 2307.09288): rotary positions, RMSNorm, SwiGLU, grouped-query heads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.parts.attention import Attention, head_width
from mtm.parts.heads import DenseHead, TiedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import RMSNorm
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.positions.rotary import Rotary
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import Decoder, Model, Tower


def llama(
  layers: int,
  embed: int,
  heads: int,
  mlp: int,
  vocab: int,
  kv_heads: int | None = None,
  rope_base: float = 10_000.0,
  tied: bool = False,
  pattern: Pattern = Causal(),  # noqa: B008 (frozen)
  dropout: float = 0.0,
  kernel: Kernel | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A LLaMA.

  Args:
    layers: number of layers.
    embed: width.
    heads: query heads, a divisor of `embed`; each has embed / heads features.
    mlp: hidden width of the gated feed-forward layer.
    vocab: number of token ids.
    kv_heads: key and value heads, a divisor of `heads`; None: `heads`.
    rope_base: base of the rotary wavelengths.
    tied: whether the head is the token table.
    pattern: who sees whom.
    dropout: share of sublayer outputs dropped (the published models: 0).
    kernel: the attention engine; None: the best that supports the call.
    scan, remat: see `Stack`.
    dtype: compute dtype.
  """
  init = normal(0.02)
  norm = functools.partial(RMSNorm, epsilon=1e-5)
  block = Block(
    mixer=Attention(
      heads, head_width(embed, heads), kv_heads, pattern, Rotary(rope_base), kernel,
      weight_init=init, out_init=init,
    ),
    channel=Mlp(mlp, jax.nn.silu, gated=True, weight_init=init, out_init=init),
    norm=norm,
    dropout=dropout,
  )  # fmt: skip
  tower = Tower(Stack((block,), layers, scan, remat), final_norm=norm, dropout=dropout)
  head = TiedHead() if tied else DenseHead(vocab, init)
  module = Decoder(Embed(vocab, embed, weight_init=init), tower, head)
  return Model(module, ("decoder_input_tokens",), vocab, None, dtype)


EXAMPLES = [
  functools.partial(llama, 2, 16, 4, 24, 40),
  functools.partial(llama, 2, 16, 4, 24, 40, kv_heads=2, tied=True),
]
