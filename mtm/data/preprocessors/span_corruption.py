"""T5's span corruption (1910.10683, §3.1.4), after the algorithm of its published code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from mtm.data.features import Layout
from mtm.data.preprocessors._base import Columns, Preprocessor, Tokens, length_of, split
from mtm.errors import UserError


@dataclasses.dataclass(frozen=True)
class SpanCorruption(Preprocessor):
  """Documents are split in pieces of `piece` tokens, which fill a row exactly once corrupted.

  The inputs hold one sentinel for each noise span, the targets one for each other span; sentinels
  count down from the last id, and both sides end with the end of sequence. A vocabulary without
  sentinels of its own lends its last ids, as T5's does.

  Attributes:
    piece: tokens of a document that are corrupted together.
    noise_density, mean_span_length: see the objective.
  """

  piece: int
  noise_density: float
  mean_span_length: float

  def check(self, tokens: Tokens) -> None:
    """Raises UserError when the vocabulary has sentinels, but fewer than a piece needs."""
    spans = noise_counts(self.piece, self.noise_density, self.mean_span_length)[1]
    if 0 < tokens.extra_ids < spans or tokens.vocab_size <= spans:
      raise UserError(
        f"span corruption needs {spans} sentinels for rows of {self.layout.lengths['encoder']} "
        f"tokens, and the vocabulary has {tokens.extra_ids}: give it extra_ids={spans} or more"
      )

  def pieces(
    self, example: Mapping[str, np.ndarray], tokens: Tokens, rng: np.random.Generator
  ) -> list[Columns]:
    """See `Preprocessor.pieces`."""
    found: list[Columns] = []
    for piece in split(tokens.body("targets", example["targets"]), self.piece):
      noise = noise_mask(len(piece), self.noise_density, self.mean_span_length, rng)
      inputs = sentinels_for_spans(piece, noise, tokens.vocab_size)
      targets = sentinels_for_spans(piece, ~noise, tokens.vocab_size)
      # Both sides come from `targets`, so its end serves both.
      found.append((tokens.ended("targets", inputs), tokens.ended("targets", targets)))
    return found


def noise_counts(length: int, density: float, mean_span: float) -> tuple[int, int]:
  """How many of `length` tokens are noise, and in how many spans (float32, as in T5)."""
  length = max(length, 2)
  noise = int(np.round(np.float32(length) * np.float32(density)))
  noise = min(max(noise, 1), length - 1)
  return noise, max(int(np.round(np.float32(noise) / np.float32(mean_span))), 1)


def _taken(length: int, density: float, mean_span: float) -> tuple[int, int]:
  """Inputs and targets that `length` tokens become, ends included."""
  noise, spans = noise_counts(length, density, mean_span)
  return length - noise + spans + 1, noise + spans + 1


def noise_mask(
  length: int, density: float, mean_span: float, rng: np.random.Generator
) -> np.ndarray:
  """T5's `random_spans_noise_mask`: bool `[length]`; spans alternate, beginning without noise.

  Given the counts of noise tokens and spans, all masks are equally likely.
  """
  noise, spans = noise_counts(length, density, mean_span)
  lengths = np.empty(2 * spans, np.int64)
  lengths[0::2] = _segments(max(length, 2) - noise, spans, rng)
  lengths[1::2] = _segments(noise, spans, rng)
  return np.repeat(np.arange(2 * spans) % 2 == 1, lengths)[:length]


def _segments(items: int, segments: int, rng: np.random.Generator) -> np.ndarray:
  """Positive lengths `[segments]` that add up to `items`, every such list equally likely.

  The spans never outnumber the items that are not noise, but in tiny pieces: there the last
  lengths are 0, as T5's are.
  """
  ends = np.sort(rng.permutation(items - 1)[: segments - 1]) + 1
  borders = np.full(segments + 1, items)
  borders[0] = 0
  borders[1 : len(ends) + 1] = ends
  return np.diff(borders)


def sentinels_for_spans(ids: np.ndarray, noise: np.ndarray, vocab_size: int) -> np.ndarray:
  """T5's `noise_span_to_unique_sentinel`: every run of `noise` becomes one sentinel.

  Args:
    ids: `[length]`.
    noise: bool `[length]`.
    vocab_size: sentinels are `vocab_size - 1`, `vocab_size - 2`, ...
  """
  before = np.zeros_like(noise)
  before[1:] = noise[:-1]
  first = noise & ~before
  replaced = np.where(first, vocab_size - np.cumsum(first), ids)
  return replaced[~(noise & before)].astype(np.int32)


def piece_length(inputs: int, density: float, mean_span: float) -> tuple[int, int]:
  """T5's `random_spans_helper`: how many tokens corrupt to `inputs`, and to how many targets.

  Both count one end of sequence; there is one sentinel a span on either side.
  """

  def corrupted(length: int) -> tuple[int, int]:
    noise = round(length * density)
    spans = round(noise / mean_span)
    return length - noise + spans + 1, noise + spans + 1

  length = inputs - 1
  while corrupted(length + 1)[0] <= inputs:
    length += 1
  needed, targets = corrupted(length)
  if density == 0.5 and targets > needed:  # T5: so that targets are as round a number as inputs
    return length - 1, targets - 1
  return length, targets


def build(objective: Any, lengths: Mapping[str, int]) -> SpanCorruption:
  """Reads the lengths of `inputs` and `targets`.

  Raises:
    UserError: one is missing, the targets are shorter than what the inputs leave out, or a number
      is out of range.
  """
  density, span = objective.noise_density, objective.mean_span_length
  if not 0 < density < 1 or span < 1:
    raise UserError(
      f"span corruption: noise_density = {density} must be between 0 and 1 and "
      f"mean_span_length = {span} at least 1"
    )
  inputs, targets = length_of(lengths, "inputs"), length_of(lengths, "targets")
  piece, needed = piece_length(inputs, density, span)
  # The helper of T5 allows tiny pieces no span, and its masks have one.
  while piece > 1 and _taken(piece, density, span)[0] > inputs:
    piece -= 1
  needed = max(needed, _taken(piece, density, span)[1])
  if inputs < 2 or targets < needed:
    raise UserError(
      f"task_feature_lengths: span corruption with inputs of {max(inputs, 2)} tokens needs targets "
      f"of at least {needed}, not {inputs} and {targets}"
    )
  layout = Layout(
    {"encoder": inputs, "decoder": targets}, ("encoder_input_tokens", "decoder_target_tokens")
  )
  return SpanCorruption(layout, piece, density, span)
