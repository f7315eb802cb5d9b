"""GPT-2 (Radford et al., 2019): a pre-norm decoder with learned positions and a tied head."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.parts.attention import Attention, head_width
from mtm.parts.heads import TiedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import Decoder, Model, Tower


def gpt2(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  max_length: int = 1024,
  mlp: int | None = None,
  dropout: float = 0.1,
  pattern: Pattern = Causal(),  # noqa: B008 (frozen)
  kernel: Kernel | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A GPT-2.

  Args:
    layers: number of layers.
    embed: width.
    heads: attention heads, a divisor of `embed`; each has embed / heads features.
    vocab: number of token ids.
    max_length: the longest sequence.
    mlp: hidden width of the feed-forward layer; None: 4 · embed.
    dropout: share dropped of embeddings, attention probabilities and sublayer outputs.
    pattern: who sees whom.
    kernel: the attention engine; None: the best that supports the call.
    scan, remat: see `Stack`.
    dtype: compute dtype.
  """
  init, out_init = normal(0.02), normal(0.02 / (2 * layers) ** 0.5)
  norm = functools.partial(LayerNorm, epsilon=1e-5)
  block = Block(
    mixer=Attention(
      heads, head_width(embed, heads), pattern=pattern, kernel=kernel, bias=True, dropout=dropout,
      weight_init=init, out_init=out_init,
    ),
    channel=Mlp(mlp or 4 * embed, jax.nn.gelu, bias=True, weight_init=init, out_init=out_init),
    norm=norm,
    dropout=dropout,
  )  # fmt: skip
  tower = Tower(
    Stack((block,), layers, scan, remat),
    position=Learned(max_length, embed),
    final_norm=norm,
    dropout=dropout,
  )
  module = Decoder(Embed(vocab, embed, weight_init=init), tower, TiedHead())
  return Model(module, ("decoder_input_tokens",), vocab, max_length, dtype)


EXAMPLES = [functools.partial(gpt2, 2, 16, 4, 40, max_length=32, mlp=24)]
