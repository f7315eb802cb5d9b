"""Prefix language modelling in a decoder: a prefix to read, a continuation to predict."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mtm.data.features import Layout
from mtm.data.preprocessors._base import (
  Columns,
  Preprocessor,
  Tokens,
  document,
  length_of,
  require,
  split,
)
from mtm.errors import UserError

COLUMNS = ("decoder_target_tokens", "decoder_loss_weights", "decoder_causal_attention")


@dataclasses.dataclass(frozen=True)
class PrefixLM(Preprocessor):
  """Where a task has inputs they are the prefix of its targets, and both are trimmed to their
  lengths; where it has targets only, documents are split in pieces of a row's length, and each at a
  point drawn uniformly so that both halves hold a token (T5's `prefix_lm`).

  `decoder_causal_attention` is 1 at the prefix and one position more: since the decoder reads its
  targets shifted right, the last token of the prefix is read where the first target is predicted
  (SeqIO's `PrefixLMFeatureConverter`).

  Attributes:
    inputs, targets: tokens they may take; `inputs` is 0 where the lengths tell none.
    loss_on_prefix: whether the prefix is predicted too.
  """

  inputs: int
  targets: int
  loss_on_prefix: bool

  def reads(self, available: Collection[str]) -> tuple[str, ...]:
    """See `Preprocessor.reads`."""
    require(("targets",), available)
    if "inputs" not in available:
      return ("targets",)
    if not self.inputs:
      raise UserError(
        "the task has inputs, which become the prefix, and task_feature_lengths lacks 'inputs': "
        "add 'inputs': <tokens>"
      )
    return ("inputs", "targets")

  def pieces(
    self, example: Mapping[str, np.ndarray], tokens: Tokens, rng: np.random.Generator
  ) -> list[Columns]:
    """See `Preprocessor.pieces`."""
    if "inputs" in example:
      prefix = tokens.trimmed("inputs", example["inputs"], self.inputs)
      targets = tokens.trimmed("targets", example["targets"], self.targets)
      joined = np.concatenate([prefix, targets])
      return [self._columns(joined, len(prefix))] if len(joined) else []
    pieces = split(document(tokens, example["targets"]), self.layout.lengths["decoder"])
    return [self._columns(piece, int(rng.integers(1, max(2, len(piece))))) for piece in pieces]

  def _columns(self, piece: np.ndarray, prefix: int) -> Columns:
    """Args: tokens `[length]`, and how many of them are the prefix."""
    if len(piece) == 1:
      prefix = 0  # nothing would be predicted
    weights = np.ones(len(piece), np.int32)
    if not self.loss_on_prefix:
      weights[:prefix] = 0
    visible = np.zeros(len(piece), np.int32)
    visible[: prefix + 1] = 1
    return piece, weights, visible


def build(objective: Any, lengths: Mapping[str, int]) -> PrefixLM:
  """Reads the lengths of `targets` and, if given, `inputs`: a row holds both.

  Raises:
    UserError: `targets` is missing.
  """
  targets = length_of(lengths, "targets")
  inputs = length_of(lengths, "inputs") if "inputs" in lengths else 0
  layout = Layout({"decoder": inputs + targets}, COLUMNS)
  return PrefixLM(layout, inputs, targets, objective.loss_on_prefix)
