"""Text to text: inputs for the encoder, targets for the decoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mtm.data.features import Layout
from mtm.data.preprocessors._base import Columns, Preprocessor, Tokens, length_of, require


@dataclasses.dataclass(frozen=True)
class Seq2Seq(Preprocessor):
  """Inputs and targets longer than a row are trimmed, as T5X does; their end is kept."""

  def reads(self, available: Collection[str]) -> tuple[str, ...]:
    """See `Preprocessor.reads`."""
    return require(("inputs", "targets"), available)

  def pieces(
    self, example: Mapping[str, np.ndarray], tokens: Tokens, rng: np.random.Generator
  ) -> list[Columns]:
    """See `Preprocessor.pieces`: one piece, or none where both sides hold no token."""
    lengths = self.layout.lengths
    inputs = tokens.trimmed("inputs", example["inputs"], lengths["encoder"])
    targets = tokens.trimmed("targets", example["targets"], lengths["decoder"])
    return [(inputs, targets)] if len(inputs) or len(targets) else []


def build(objective: Any, lengths: Mapping[str, int]) -> Seq2Seq:
  """Reads the lengths of `inputs` and `targets`. Raises UserError when one is missing."""
  sides = {"encoder": length_of(lengths, "inputs"), "decoder": length_of(lengths, "targets")}
  return Seq2Seq(Layout(sides, ("encoder_input_tokens", "decoder_target_tokens")))
