"""T5X's decoder (`examples/decoder_only`): the decoder of a T5 1.1 (2002.05202) with no encoder
beside it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families.t5 import t5
from mtm.parts.kernels import Kernel
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.prefix import prefix_lm
from mtm.parts.transformer import Decoder, Model


def t5_decoder(
  layers: int,
  embed: int,
  heads: int,
  head_dim: int,
  mlp: int,
  vocab: int,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
  gated: bool = True,
  tied: bool = True,
  pattern: Pattern = prefix_lm(),  # noqa: B008 (frozen)
  kernel: Kernel | str | None = None,
  buckets: int = 32,
  max_distance: int = 128,
  epsilon: float = 1e-6,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A T5's decoder alone, a prefix LM where `decoder_causal_attention` says what is a prefix.

  Arguments that are not told of here are those of `t5`.

  Args:
    layers: number of layers.
    tied: whether the head is the token table, with states scaled by 1 / √embed.
    pattern: who sees whom; `Causal()` has no prefix and suits more engines.
  """
  model = t5(
    0, embed, heads, head_dim, mlp, vocab,
    dropout=dropout, activation=activation, gated=gated, tied=tied, kernel=kernel,
    decoder_layers=layers, buckets=buckets, max_distance=max_distance, epsilon=epsilon, scan=scan,
    remat=remat, dtype=dtype,
  )  # fmt: skip
  both: Any = model.module
  (layer,) = both.decoder.stack.period
  block = layer.clone(cross=None, mixer=layer.mixer.clone(pattern=pattern))
  tower = both.decoder.clone(stack=both.decoder.stack.clone(period=(block,)))
  module = Decoder(both.tokens, tower, both.head)
  return dataclasses.replace(model, module=module, inputs=("decoder_input_tokens",))


EXAMPLES = [
  functools.partial(t5_decoder, 2, 16, 4, 8, 24, 40),
  functools.partial(
    t5_decoder, 1, 16, 2, 4, 24, 40, activation=jax.nn.relu, gated=False, tied=False
  ),
]
