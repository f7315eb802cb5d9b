"""LED (2004.05150, §7): a BART for long texts, whose encoder is a Longformer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from mtm.families import _bart, _windows
from mtm.families._names import Row, every, heads_in, heads_out, linear, norm, row
from mtm.families._published import Arguments, Config, Published
from mtm.parts.activations import gelu
from mtm.parts.attention import head_width
from mtm.parts.kernels import Kernel
from mtm.parts.linear import normal
from mtm.parts.mixers.longformer import Longformer
from mtm.parts.transformer import Model

_VARIANT = _bart.Variant(pre_norm=False, embed_norm=True, learned=True, offset=0)
_IDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
_TABLE = "led.shared.weight"


def led(
  layers: int,
  embed: int,
  heads: int,
  mlp: int,
  vocab: int,
  windows: Sequence[int] = (1024,),
  max_global: int = 64,
  first_global: int = 0,
  max_length: int = 16384,
  decoder_max_length: int = 1024,
  decoder_layers: int | None = None,
  decoder_heads: int | None = None,
  decoder_mlp: int | None = None,
  dropout: float = 0.1,
  attention_dropout: float = 0.0,
  activation_dropout: float = 0.0,
  activation: Callable[[jax.Array], jax.Array] = gelu,
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """An LED.

  A batch tells global tokens in `encoder_global_attention`, 1 at such; where it does not, the
  `first_global` of each document are: in the paper 1, as `transformers` opens it none.

  Args:
    layers, embed, heads, mlp, vocab, decoder_layers, decoder_heads, decoder_mlp, dropout,
      attention_dropout, activation_dropout, activation, kernel, scan, remat, dtype: as in
      `mtm.families.bart.bart`.
    windows, max_global, first_global: of the encoder, as in `mtm.families.longformer.longformer`.
    max_length: the longest sequence of the encoder.
    decoder_max_length: the longest sequence of the decoder.

  Raises:
    UserError: the layers are no whole number of periods, a window is odd, or `max_global` is less
      than `first_global`.
  """
  _windows.period_of(layers, windows, max_global, first_global)
  init = normal(0.02)
  mixers = [
    Longformer(
      heads, head_width(embed, heads), window // 2, max_global, first_global, kernel, True,
      attention_dropout, init, init,
    )
    for window in windows
  ]  # fmt: skip
  return _bart.build(
    _VARIANT, layers=layers, embed=embed, heads=heads, mlp=mlp, vocab=vocab, max_length=max_length,
    decoder_layers=decoder_layers, decoder_heads=decoder_heads, decoder_mlp=decoder_mlp,
    dropout=dropout, attention_dropout=attention_dropout, activation_dropout=activation_dropout,
    activation=activation, scale_embedding=False, kernel=kernel, scan=scan, remat=remat,
    dtype=dtype, mixers=mixers, decoder_max_length=decoder_max_length,
  )  # fmt: skip


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("scale_embedding", False)
  theirs.ignore("max_position_embeddings")  # neither side's
  found = _bart.arguments_of(theirs, _VARIANT)
  del found["scale_embedding"]
  return {
    **found,
    **_windows.windows_of(theirs, found["layers"]),
    "max_length": theirs.get("max_encoder_position_embeddings", 16384),
    "decoder_max_length": theirs.get("max_decoder_position_embeddings", 1024),
  }


def _config(a: Arguments) -> dict[str, Any]:
  words = _bart.config_of({**a, "scale_embedding": False})
  del words["max_position_embeddings"], words["scale_embedding"]
  return {
    **words, **_windows.words(a), **_IDS, "max_encoder_position_embeddings": a["max_length"],
    "max_decoder_position_embeddings": a["decoder_max_length"],
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  theirs, heads, period = "led.encoder.layers.{}", a["heads"], len(a["windows"])
  attention = f"{theirs}.self_attn.longformer_self_attn"

  def layer(ours: str) -> list[Row]:
    own = [
      r
      for name in _windows.PROJECTIONS
      for r in heads_in(f"{ours}/mixer/{name}", f"{attention}.{name}", heads)
    ]
    return [
      *own,
      *_windows.projection_rows(f"{ours}/mixer", attention, heads),
      *heads_out(f"{ours}/mixer/out", f"{theirs}.self_attn.output", heads),
      *norm(f"{ours}/mixer_norm", f"{theirs}.self_attn_layer_norm"),
      *linear(f"{ours}/channel/wi", f"{theirs}.fc1"),
      *linear(f"{ours}/channel/wo", f"{theirs}.fc2"),
      *norm(f"{ours}/channel_norm", f"{theirs}.final_layer_norm"),
    ]

  return [
    row("tokens/embedding", _TABLE),
    *(r for i in range(period) for r in every(layer(f"encoder/stack/period_{i}"), i, period)),
    *_bart.ends_rows(_VARIANT, "encoder", "led"),
    *_bart.tower_rows(_VARIANT, "decoder", a["decoder_heads"] or heads, True, "led"),
    Row((), ("final_logits_bias",), _bart.Zeros((1, a["vocab"])), optional=True),
  ]


HF = Published(
  "led", ("LEDForConditionalGeneration", "LEDModel"), led, _arguments, _config, _rows, "led.",
  (), {
    "led.encoder.embed_tokens.weight": _TABLE, "led.decoder.embed_tokens.weight": _TABLE,
    "lm_head.weight": _TABLE,
  }, _IDS,
)  # fmt: skip

EXAMPLES = [
  functools.partial(
    led, 2, 16, 4, 24, 40, (2, 6), max_global=4, first_global=1, max_length=32,
    decoder_max_length=32, decoder_layers=1, decoder_heads=2,
  ),
]  # fmt: skip
