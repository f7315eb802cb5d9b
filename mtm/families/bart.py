"""BART (1910.13461): a post-norm encoder-decoder with learned positions and a tied head."""

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

_VARIANT = _bart.Variant(pre_norm=False, embed_norm=True, learned=True)
_IDS = {
  "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
  "forced_eos_token_id": 2,
}  # fmt: skip


def bart(
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
  scale_embedding: bool = False,
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A BART.

  Args:
    layers: encoder layers.
    embed: width.
    heads: attention heads of the encoder, a divisor of `embed`; each has embed / heads features.
    mlp: hidden width of the encoder's feed-forward layers.
    vocab: number of token ids.
    max_length: the longest sequence of either side.
    decoder_layers, decoder_heads, decoder_mlp: the decoder's; None: the encoder's.
    dropout: share dropped of embeddings and sublayer outputs.
    attention_dropout: share dropped of attention probabilities.
    activation_dropout: share dropped of the feed-forward layer's hidden states.
    activation: of the feed-forward layer.
    scale_embedding: whether token vectors are multiplied by √embed.
    kernel: the attention engine; None: the best that supports the call.
    scan, remat: see `Stack`.
    dtype: compute dtype.
  """
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
  "bart", ("BartForConditionalGeneration", "BartModel"), bart,
  functools.partial(_bart.arguments_of, variant=_VARIANT), _config,
  functools.partial(_bart.rows_of, variant=_VARIANT), "model.",
  _bart.IGNORED, _bart.COPIES, _IDS,
)  # fmt: skip

EXAMPLES = [
  functools.partial(bart, 2, 16, 4, 24, 40, max_length=32, decoder_layers=1, decoder_heads=2)
]
