"""Longformer (2004.05150): a RoBERTa whose tokens see a window, and global tokens that see all."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from mtm.families import _encoder as encoder
from mtm.families import _windows
from mtm.families._names import Row, every
from mtm.families._published import Arguments, Config, Published
from mtm.families.roberta import FIRST
from mtm.parts.activations import gelu
from mtm.parts.attention import head_width
from mtm.parts.heads import MaskedHead
from mtm.parts.kernels import Kernel
from mtm.parts.mixers.longformer import Longformer
from mtm.parts.mlp import Mlp
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Block, PostNorm, Stack
from mtm.parts.transformer import Model


def longformer(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  windows: Sequence[int] = (512,),
  max_global: int = 64,
  first_global: int = 0,
  max_length: int = 4096,
  mlp: int | None = None,
  token_types: int = 1,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = gelu,
  epsilon: float = 1e-5,
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A Longformer for masked language modelling.

  A batch tells global tokens in `encoder_global_attention`, 1 at such; where it does not, the
  `first_global` of each document are, by default none, as in pre-training. For segment ids see
  `mtm.families.roberta.roberta`.

  Args:
    layers: number of layers, a multiple of the number of windows.
    embed, heads, vocab, mlp, dropout, epsilon, kernel, scan, remat, dtype: as in
      `mtm.families.bert.bert`.
    windows: for each layer of the period that is repeated, how many tokens a token sees besides
      itself, half of them on each side.
    max_global: the most global tokens in a row; no parameter depends on it.
    first_global: how many first tokens of a document are global where a batch tells none.
    max_length: the longest sequence, two less than the rows of the table of positions.
    token_types: number of token types; the published ones have one, the same for all tokens.
    activation: of the feed-forward layer; that of the head is always GELU.

  Raises:
    UserError: the layers are no whole number of periods, a window is odd, or `max_global` is less
      than `first_global`.
  """
  period = _windows.period_of(layers, windows, max_global, first_global)
  norm, init = encoder.layer_norm(epsilon), encoder.INIT

  def block(window: int) -> Block:
    mixer = Longformer(
      heads, head_width(embed, heads), window // 2, max_global, first_global, kernel, True, dropout,
      init, init,
    )  # fmt: skip
    channel = Mlp(mlp or 4 * embed, activation, bias=True, weight_init=init, out_init=init)
    return Block(mixer, channel, norm, placement=PostNorm(), dropout=dropout)

  stack = Stack(tuple(block(window) for window in windows), layers // period, scan, remat)
  return encoder.model(
    stack, MaskedHead(norm, gelu, init), vocab, embed, max_length,
    Learned(max_length, embed, FIRST), norm, token_types, dropout, dtype,
  )  # fmt: skip


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("pad_token_id", FIRST - 1)
  theirs.expect("attention_mode", "longformer")  # old files
  theirs.expect("ignore_attention_mask", False)
  theirs.ignore("onnx_export")
  sizes = encoder.sizes(theirs)
  return {
    **sizes,
    **encoder.attended(theirs),
    **_windows.windows_of(theirs, sizes["layers"]),
    "max_length": theirs.get("max_position_embeddings", 512) - FIRST,
    "token_types": theirs.get("type_vocab_size", 2),
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {
    **encoder.words(a), **_windows.words(a), "max_position_embeddings": a["max_length"] + FIRST,
    "type_vocab_size": a["token_types"], "pad_token_id": FIRST - 1,
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  heads, period, theirs = a["heads"], len(a["windows"]), "longformer.encoder.layer.{}"

  def layer(number: int) -> list[Row]:
    ours = f"encoder/stack/period_{number}"
    rows = [
      *encoder.layer_rows(theirs, heads, ours=ours),
      *_windows.projection_rows(f"{ours}/mixer", f"{theirs}.attention.self", heads),
    ]
    return every(rows, number, period)

  return [
    *encoder.embedding_rows("longformer.embeddings"),
    encoder.types_row("longformer.embeddings"),
    *(row for number in range(period) for row in layer(number)),
    *encoder.head_rows("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
  ]


HF = Published(
  "longformer", ("LongformerForMaskedLM",), longformer, _arguments, _config, _rows, "longformer.",
  # A pooler stands in some files; masked language modelling does not read it.
  (r"longformer\.embeddings\.position_ids", r"longformer\.pooler\.dense\.(weight|bias)"),
  encoder.tied("lm_head.decoder", "longformer.embeddings.word_embeddings.weight", "lm_head.bias"),
  encoder.FAIRSEQ, counted=True,
)  # fmt: skip

EXAMPLES = [
  functools.partial(
    longformer, 2, 16, 4, 40, (2, 4), max_global=4, first_global=1, max_length=32, mlp=24
  ),
  functools.partial(longformer, 2, 16, 4, 40, (6,), first_global=2, max_length=32, mlp=24),
]
