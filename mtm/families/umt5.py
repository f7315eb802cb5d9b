"""UMT5 (2304.09151): T5 1.1 with relative positions of its own in every layer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families._names import Row
from mtm.families._published import Arguments, Config, Published
from mtm.families.t5 import COPIES, IGNORED, MT5_SIZES, arguments_of, config_of, rows_of, t5
from mtm.parts.kernels import Kernel
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.full import Full
from mtm.parts.transformer import Model


def umt5(
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
  kernel: Kernel | str | None = None,
  encoder_pattern: Pattern = Full(),  # noqa: B008 (frozen)
  decoder_layers: int | None = None,
  buckets: int = 32,
  max_distance: int = 128,
  epsilon: float = 1e-6,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A UMT5; the arguments are those of `t5`."""
  return t5(
    layers, embed, heads, head_dim, mlp, vocab,
    dropout=dropout, activation=activation, gated=gated, tied=tied, kernel=kernel,
    encoder_pattern=encoder_pattern, decoder_layers=decoder_layers, buckets=buckets,
    max_distance=max_distance, epsilon=epsilon, layer_bias=True, scan=scan, remat=remat,
    dtype=dtype,
  )  # fmt: skip


def _arguments(theirs: Config) -> Arguments:
  theirs.ignore("scalable_attention")  # left over from T5X; their code reads it nowhere
  return arguments_of(theirs, MT5_SIZES)


def _rows(a: Arguments) -> list[Row]:
  return rows_of(a, layer_bias=True)


HF = Published(
  "umt5", ("UMT5ForConditionalGeneration",), umt5, _arguments, config_of, _rows, "", IGNORED, COPIES
)

EXAMPLES = [functools.partial(umt5, 2, 16, 4, 8, 24, 40, decoder_layers=1)]
