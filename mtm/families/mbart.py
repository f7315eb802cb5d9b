"""mBART (2001.08210): BART with norms before the sublayers and after each stack, and scaled ids."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families import _bart
from mtm.families._published import Arguments, Published
from mtm.parts.activations import gelu
from mtm.parts.kernels import Kernel
from mtm.parts.transformer import Model

_VARIANT = _bart.Variant(pre_norm=True, embed_norm=True, learned=True)
# A decoder begins with the code of the language that it is to write, which only its user knows.
_IDS = {
  "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": None,
  "forced_eos_token_id": 2,
}  # fmt: skip


def mbart(
  layers: int,
  embed: int,
  heads: int,
  mlp: int,
  vocab: int,
  max_length: int = 1024,
  decoder_layers: int | None = None,
  decoder_heads: int | None = None,
  decoder_mlp: int | None = None,
  dropout: float = 0.1,
  attention_dropout: float = 0.0,
  activation_dropout: float = 0.0,
  activation: Callable[[jax.Array], jax.Array] = gelu,
  scale_embedding: bool = True,
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """An mBART; the arguments are those of `bart`."""
  return _bart.build(
    _VARIANT, layers=layers, embed=embed, heads=heads, mlp=mlp, vocab=vocab, max_length=max_length,
    decoder_layers=decoder_layers, decoder_heads=decoder_heads, decoder_mlp=decoder_mlp,
    dropout=dropout, attention_dropout=attention_dropout, activation_dropout=activation_dropout,
    activation=activation, scale_embedding=scale_embedding, kernel=kernel, scan=scan, remat=remat,
    dtype=dtype,
  )  # fmt: skip


def _config(a: Arguments) -> dict[str, Any]:
  return {**_bart.config_of(a), **_IDS}


HF = Published(
  "mbart", ("MBartForConditionalGeneration",), mbart,
  functools.partial(_bart.arguments_of, variant=_VARIANT), _config,
  functools.partial(_bart.rows_of, variant=_VARIANT), "model.",
  _bart.IGNORED, _bart.COPIES, _IDS,
)  # fmt: skip

EXAMPLES = [
  functools.partial(mbart, 2, 16, 4, 24, 40, max_length=32, decoder_layers=1, decoder_heads=2)
]
