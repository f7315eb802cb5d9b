"""Causal language modelling: documents in pieces of a row's length."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from mtm.data.features import Layout
from mtm.data.preprocessors._base import (
  Columns,
  Preprocessor,
  Tokens,
  document,
  length_of,
  split,
)


@dataclasses.dataclass(frozen=True)
class CausalLM(Preprocessor):
  """A document longer than a row is split: every token is a target exactly once."""

  def pieces(
    self, example: Mapping[str, np.ndarray], tokens: Tokens, rng: np.random.Generator
  ) -> list[Columns]:
    """See `Preprocessor.pieces`."""
    text = document(tokens, example["targets"])
    return [(piece,) for piece in split(text, self.layout.lengths["decoder"])]


def build(objective: Any, lengths: Mapping[str, int]) -> CausalLM:
  """Reads the length of `targets`. Raises UserError when it is missing."""
  length = length_of(lengths, "targets")
  return CausalLM(Layout({"decoder": length}, ("decoder_target_tokens",)))
