"""ALBERT (1909.11942): BERT's encoder with narrow embeddings and one layer for all depths."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families import _encoder as encoder
from mtm.families._names import Row, linear
from mtm.families._published import Arguments, Config, Published
from mtm.parts.heads import MaskedHead
from mtm.parts.kernels import Kernel
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.full import Full
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Stack
from mtm.parts.transformer import Model

NAMES = {
  "query": "attention.query", "key": "attention.key", "value": "attention.value",
  "out": "attention.dense", "mixer_norm": "attention.LayerNorm", "wi": "ffn", "wo": "ffn_output",
  "channel_norm": "full_layer_layer_norm",
}  # fmt: skip


def albert(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  width: int = 128,
  max_length: int = 512,
  mlp: int | None = None,
  token_types: int = 2,
  dropout: float = 0.0,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
  epsilon: float = 1e-12,
  pattern: Pattern = Full(),  # noqa: B008 (frozen)
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """An ALBERT for masked language modelling.

  Args:
    layers: how often its one layer runs.
    embed, heads, vocab, max_length, mlp, token_types, dropout, activation, epsilon, pattern,
      kernel, scan, remat, dtype: as in `mtm.families.bert.bert`.
    width: size of the embeddings, always projected to `embed`.
  """
  block = encoder.layer(embed, heads, mlp, dropout, activation, epsilon, pattern, kernel)
  norm = encoder.layer_norm(epsilon)
  return encoder.model(
    Stack((block,), layers, scan, remat, share=True), MaskedHead(norm, activation, encoder.INIT),
    vocab, width, max_length, Learned(max_length, width), norm, token_types, dropout, dtype,
    project=embed,
  )  # fmt: skip


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("num_hidden_groups", 1)
  theirs.expect("inner_group_num", 1)
  theirs.expect("down_scale_factor", 1)
  theirs.expect("net_structure_type", 0)
  theirs.ignore("classifier_dropout_prob")
  return {
    **encoder.sizes(theirs, 4096, 16384, "gelu_new"),
    **encoder.attended(theirs, 64, 0.0),
    "width": theirs.get("embedding_size", 128),
    "max_length": theirs.get("max_position_embeddings", 512),
    "token_types": theirs.get("type_vocab_size", 2),
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {
    **encoder.words(a), "embedding_size": a["width"], "type_vocab_size": a["token_types"],
    "num_hidden_groups": 1, "inner_group_num": 1,
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  layer = "albert.encoder.albert_layer_groups.0.albert_layers.0"
  return [
    *encoder.embedding_rows("albert.embeddings"),
    encoder.types_row("albert.embeddings"),
    *linear("encoder/project", "albert.encoder.embedding_hidden_mapping_in"),
    *encoder.layer_rows(layer, a["heads"], NAMES),
    *encoder.head_rows("predictions.dense", "predictions.LayerNorm", "predictions.bias"),
  ]


HF = Published(
  "albert", ("AlbertForMaskedLM",), albert, _arguments, _config, _rows, "albert.",
  # What judged the order of sentences stands in some files; masked language modelling does not
  # read it.
  (
    r"albert\.embeddings\.position_ids", r"albert\.pooler\.(weight|bias)",
    r"sop_classifier\.classifier\.(weight|bias)",
  ),
  encoder.tied(
    "predictions.decoder", "albert.embeddings.word_embeddings.weight", "predictions.bias"
  ),
)  # fmt: skip

EXAMPLES = [functools.partial(albert, 2, 16, 4, 40, 12, max_length=32, mlp=24)]
