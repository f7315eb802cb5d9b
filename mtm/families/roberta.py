"""RoBERTa (1907.11692): BERT's encoder with other names, and positions that begin at 2."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families import _encoder as encoder
from mtm.families._names import Row
from mtm.families._published import Arguments, Config, Published
from mtm.parts.activations import gelu
from mtm.parts.heads import MaskedHead
from mtm.parts.kernels import Kernel
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.full import Full
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Stack
from mtm.parts.transformer import Model

FIRST = 2  # fairseq's padding id is 1, and its positions follow that id


def roberta(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  max_length: int = 512,
  mlp: int | None = None,
  token_types: int = 1,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = gelu,
  epsilon: float = 1e-5,
  pattern: Pattern = Full(),  # noqa: B008 (frozen)
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A RoBERTa for masked language modelling.

  Its tokenizer gives padding the id 1 and `<s>` the id 0, which a model takes for padding where no
  segment ids say what is: batches need `encoder_segment_ids`, as the handle of `mtm.load` adds.

  Args:
    layers, embed, heads, vocab, mlp, dropout, epsilon, pattern, kernel, scan, remat, dtype: as in
      `mtm.families.bert.bert`.
    max_length: the longest sequence, two less than the rows of the table of positions.
    token_types: number of token types; the published ones have one, the same for all tokens.
    activation: of the feed-forward layer; that of the head is always GELU.
  """
  block = encoder.layer(embed, heads, mlp, dropout, activation, epsilon, pattern, kernel)
  norm = encoder.layer_norm(epsilon)
  return encoder.model(
    Stack((block,), layers, scan, remat), MaskedHead(norm, gelu, encoder.INIT), vocab, embed,
    max_length, Learned(max_length, embed, FIRST), norm, token_types, dropout, dtype,
  )  # fmt: skip


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("pad_token_id", FIRST - 1)
  return {
    **encoder.sizes(theirs),
    **encoder.attended(theirs),
    "max_length": theirs.get("max_position_embeddings", 512) - FIRST,
    "token_types": theirs.get("type_vocab_size", 2),
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {
    **encoder.words(a), "max_position_embeddings": a["max_length"] + FIRST,
    "type_vocab_size": a["token_types"], "pad_token_id": FIRST - 1,
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  return [
    *encoder.embedding_rows("roberta.embeddings"),
    encoder.types_row("roberta.embeddings"),
    *encoder.layer_rows("roberta.encoder.layer.{}", a["heads"]),
    *encoder.head_rows("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
  ]


HF = Published(
  "roberta", ("RobertaForMaskedLM",), roberta, _arguments, _config, _rows, "roberta.",
  # A pooler stands in some files; masked language modelling does not read it.
  (r"roberta\.embeddings\.position_ids", r"roberta\.pooler\.dense\.(weight|bias)"),
  encoder.tied("lm_head.decoder", "roberta.embeddings.word_embeddings.weight", "lm_head.bias"),
  encoder.FAIRSEQ, counted=True,
)  # fmt: skip

EXAMPLES = [functools.partial(roberta, 2, 16, 4, 40, max_length=32, mlp=24)]
