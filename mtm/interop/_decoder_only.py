"""T5X's decoder (`examples/decoder_only`), which names and joins as its T5 does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mtm.families._names import Row, row
from mtm.families._published import complete
from mtm.families.t5_decoder import t5_decoder
from mtm.interop._slots import Source, moments, slots
from mtm.interop._unscanned import sizes, tower

BUILD = t5_decoder
TOKENS = "target/decoder/token_embedder/embedding"

__all__ = ["BUILD", "arguments_of", "found", "moments", "rows", "slots"]


def found(names: Iterable[str]) -> bool:
  """Whether these are the arrays of a decoder alone."""
  return TOKENS in names


def arguments_of(source: Source) -> dict[str, Any]:
  """The arguments of `t5_decoder` that shapes tell. Raises UserError where an array is missing."""
  return complete(t5_decoder, sizes(source, TOKENS, "decoder", "self_attention"))


def rows(a: Mapping[str, Any]) -> list[Row]:
  """The name table of `t5_decoder` with these arguments."""
  head = [row("head/logits_dense/kernel", "target/decoder/logits_dense/kernel")]
  return [
    row("tokens/embedding", TOKENS),
    *tower("decoder", {"mixer": ("self_attention", "pre_self_attention_layer_norm")}, a),
    *([] if a["tied"] else head),
  ]
