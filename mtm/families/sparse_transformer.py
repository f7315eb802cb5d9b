"""The Sparse Transformer (1904.10509): a deep pre-norm decoder with a sparse attention pattern."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.parts.activations import quick_gelu
from mtm.parts.attention import Attention, head_width
from mtm.parts.heads import DenseHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns import Pattern
from mtm.parts.patterns import published as patterns
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import Decoder, Model, Tower


def sparse_transformer(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  max_length: int,
  pattern: Pattern = patterns.sparse_fixed(128, 32),  # noqa: B008 (frozen)
  mlp: int | None = None,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = quick_gelu,
  epsilon: float = 1e-5,
  kernel: Kernel | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A Sparse Transformer with the paper's initialisation, which keeps hundreds of layers stable.

  It has a vector for each position; the paper has the sum of one for its row and one for its column
  in a matrix as wide as the stride.

  Args:
    layers: number of layers.
    embed: width.
    heads: attention heads, a divisor of `embed`; each has embed / heads features.
    vocab: number of token ids.
    max_length: the longest sequence.
    pattern: who sees whom: `sparse_fixed` for text, `sparse_strided` where data has a period, or
      one of both by head (`mtm.parts.patterns.published`).
    mlp: hidden width of the feed-forward layer; None: 4 · embed.
    dropout: share dropped of sublayer outputs.
    activation: of the feed-forward layer.
    epsilon: of the norms.
    kernel: the attention engine; None: the best that supports the call.
    scan, remat: see `Stack`.
    dtype: compute dtype.
  """

  def init(fan_in: int, scale: float = 1.0) -> Any:
    return normal(0.125 * scale / fan_in**0.5)

  layer_norm, hidden = functools.partial(LayerNorm, epsilon=epsilon), mlp or 4 * embed
  deep = (2 * layers) ** -0.5  # of what is added to the residual stream
  mixer = Attention(
    heads, head_width(embed, heads), pattern=pattern, kernel=kernel, bias=True,
    weight_init=init(embed), out_init=init(embed, deep),
  )  # fmt: skip
  channel = Mlp(hidden, activation, bias=True, weight_init=init(embed), out_init=init(hidden, deep))
  tower = Tower(
    Stack((Block(mixer, channel, layer_norm, dropout=dropout),), layers, scan, remat),
    position=Learned(max_length, embed, weight_init=init(embed)),
    final_norm=layer_norm,
  )
  head = DenseHead(vocab, jax.nn.initializers.zeros)
  module = Decoder(Embed(vocab, embed, weight_init=init(embed)), tower, head)
  return Model(module, ("decoder_input_tokens",), vocab, max_length, dtype)


EXAMPLES = [
  functools.partial(sparse_transformer, 2, 16, 4, 40, 32, pattern, mlp=24)
  for pattern in (patterns.sparse_strided(3), patterns.sparse_fixed_by_head(4, 1, 4))
]
