"""Masked language modelling: BERT's masks (1810.04805, §3.1 and its `create_pretraining_data`)."""

from __future__ import annotations

import dataclasses
import functools
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
from mtm.errors import UserError

COLUMNS = ("encoder_input_tokens", "encoder_target_tokens", "encoder_loss_weights")


@dataclasses.dataclass(frozen=True)
class MaskedLM(Preprocessor):
  """Documents are split in pieces of a row's length. In each, round(`mask_rate` · tokens) of those
  that stand for text are chosen, one at least; ends and padding never are.

  Attributes:
    mask_rate, mask_share, random_share, whole_word, mask_id: see the objective.
  """

  mask_rate: float
  mask_share: float
  random_share: float
  whole_word: bool
  mask_id: int | None

  def check(self, tokens: Tokens) -> None:
    """Raises UserError when `mask_id` is no id, or words are asked for and unknowable."""
    if self.mask_id is not None and not 0 <= self.mask_id < tokens.vocab_size:
      raise UserError(
        f"mask_id = {self.mask_id} is not in the vocabulary of {tokens.vocab_size} ids; "
        "leave it None for the last one"
      )
    if self.whole_word:
      tokens.word_starts()

  def pieces(
    self, example: Mapping[str, np.ndarray], tokens: Tokens, rng: np.random.Generator
  ) -> list[Columns]:
    """See `Preprocessor.pieces`."""
    text = document(tokens, example["targets"])
    return [self._masked(p, tokens, rng) for p in split(text, self.layout.lengths["encoder"])]

  def _masked(self, ids: np.ndarray, tokens: Tokens, rng: np.random.Generator) -> Columns:
    """Inputs, targets and weights of one piece, `[length]` each."""
    text = np.flatnonzero(~_is_special(tokens.vocab_size, tokens.special)[ids])
    chosen = self._chosen(ids, text, tokens, rng)
    inputs = ids.astype(np.int32)
    luck = rng.random(len(chosen))
    mask = tokens.vocab_size - 1 if self.mask_id is None else self.mask_id
    inputs[chosen[luck < self.mask_share]] = mask
    swapped = chosen[(luck >= self.mask_share) & (luck < self.mask_share + self.random_share)]
    plain = _plain(tokens.vocab_size, tokens.extra_ids, (*tokens.special, mask))
    inputs[swapped] = plain[rng.integers(len(plain), size=len(swapped))]
    weights = np.zeros(len(ids), np.int32)
    weights[chosen] = 1
    return inputs, ids, weights

  def _chosen(
    self, ids: np.ndarray, text: np.ndarray, tokens: Tokens, rng: np.random.Generator
  ) -> np.ndarray:
    """The positions to predict, of those in `text`."""
    if not len(text):
      return text
    wanted = max(1, round(len(text) * self.mask_rate))
    if not self.whole_word:
      return rng.permutation(text)[:wanted]
    starts = tokens.word_starts()[ids[text]]
    starts[1:] |= np.diff(text) > 1  # what is no text parts words too
    words = np.split(text, np.flatnonzero(starts[1:]) + 1)
    chosen: list[np.ndarray] = []
    for i in rng.permutation(len(words)):
      # A word that would exceed the number is passed over, but one word there must be.
      if len(words[i]) <= wanted or not chosen:
        chosen.append(words[i])
        wanted -= len(words[i])
      if wanted <= 0:
        break
    return np.concatenate(chosen)


@functools.lru_cache(maxsize=16)
def _is_special(vocab_size: int, special: tuple[int, ...]) -> np.ndarray:
  """bool `[vocab_size]`."""
  return np.isin(np.arange(vocab_size), special)


@functools.lru_cache(maxsize=16)
def _plain(vocab_size: int, extra_ids: int, banned: tuple[int, ...]) -> np.ndarray:
  """The ids that stand for text."""
  return np.setdiff1d(np.arange(vocab_size - extra_ids), banned)


def build(objective: Any, lengths: Mapping[str, int]) -> MaskedLM:
  """Reads the length of `targets`.

  Raises:
    UserError: it is missing, or a share is out of range.
  """
  rate, shares = objective.mask_rate, objective.mask_share + objective.random_share
  if not 0 < rate <= 1 or not 0 <= shares <= 1 + 1e-9:
    raise UserError(
      f"masked LM: mask_rate = {rate} must be above 0 and at most 1, and mask_share + "
      f"random_share = {shares} at most 1"
    )
  layout = Layout({"encoder": length_of(lengths, "targets")}, COLUMNS)
  return MaskedLM(
    layout,
    rate,
    objective.mask_share,
    objective.random_share,
    objective.whole_word,
    objective.mask_id,
    static=not objective.dynamic,
  )
