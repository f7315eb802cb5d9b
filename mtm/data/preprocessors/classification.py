"""Classification: a text or a pair of texts in BERT's form (1810.04805, §3), and its class."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mtm.data.features import Layout
from mtm.data.preprocessors._base import Columns, Preprocessor, Tokens, length_of, require
from mtm.errors import UserError

COLUMNS = ("encoder_input_tokens", "encoder_target_tokens", "encoder_loss_weights")
TYPES = "encoder_token_types"


@dataclasses.dataclass(frozen=True)
class Classification(Preprocessor):
  """Every example is one piece, whose first token is to tell its class; where it is longer than a
  row, the longer of its texts is trimmed, token by token, as BERT's own code does.

  Attributes:
    classes, separators, begin_id, end_id: see the objective.
    second: the feature with the second text, or nothing.
  """

  classes: int
  separators: int
  begin_id: int | None
  end_id: int | None
  second: tuple[str, ...]

  def reads(self, available: Collection[str]) -> tuple[str, ...]:
    """See `Preprocessor.reads`."""
    return require(("inputs", *self.second, "label"), available)

  def check(self, tokens: Tokens) -> None:
    """Raises UserError where the task has other classes, or no id begins or ends a text."""
    if tokens.classes != self.classes:
      raise UserError(
        f"its label has {tokens.classes} classes and the objective {self.classes}: set CLASSES to"
        f" {tokens.classes}, or make `label` a feature of rank 0 with a PassThroughVocabulary of"
        f" {self.classes}"
      )
    self._begin_and_end(tokens)

  def pieces(
    self, example: Mapping[str, np.ndarray], tokens: Tokens, rng: np.random.Generator
  ) -> list[Columns]:
    """See `Preprocessor.pieces`: one piece, however short."""
    del rng
    begin, end = self._begin_and_end(tokens)
    between = self.separators if self.second else 1
    texts = [tokens.body(name, example[name]) for name in ("inputs", *self.second)]
    special = 1 + between + len(self.second)
    texts = _trimmed(texts, self.layout.lengths["encoder"] - special)
    first = np.concatenate([[begin], texts[0], [end] * between])
    rest = np.concatenate([texts[1], [end]]) if self.second else first[:0]
    ids = np.concatenate([first, rest]).astype(np.int32)
    targets, weights = np.zeros_like(ids), np.zeros_like(ids)
    targets[0], weights[0] = example["label"][0], 1
    types = np.zeros_like(ids)
    types[len(first) :] = 1
    return [(ids, targets, weights, types)[: len(self.layout.columns)]]

  def _begin_and_end(self, tokens: Tokens) -> tuple[int, int]:
    """The ids that begin and end a text. Raises UserError where there is none, or no such id."""
    found = []
    for name, ours, theirs in (
      ("begin_id", self.begin_id, tokens.begin), ("end_id", self.end_id, tokens.end),
    ):  # fmt: skip
      value = theirs if ours is None else ours
      if value is None or not 0 <= value < tokens.vocab_size:
        told = "names no such token" if value is None else f"has no id {value}"
        raise UserError(
          f"classification puts {name} around every text, and the vocabulary of"
          f" {tokens.vocab_size} ids {told}: bind Classification.{name}"
        )
      found.append(value)
    return found[0], found[1]


def _trimmed(texts: list[np.ndarray], room: int) -> list[np.ndarray]:
  """Texts of `room` tokens in all at most; the longer one gives."""
  if len(texts) == 1:
    return [texts[0][:room]]
  first, second = (len(text) for text in texts)
  half = room - room // 2  # the first keeps one more: the second gives where they are equal
  if first + second > room:
    first = min(first, max(half, room - second))
    second = min(second, room - first)
  return [texts[0][:first], texts[1][:second]]


def build(objective: Any, lengths: Mapping[str, int]) -> Classification:
  """Reads the length of `inputs`, that of a whole row: special tokens and a second text included.

  Raises:
    UserError: it is missing or too short, or there are no separators.
  """
  length, pairs = length_of(lengths, "inputs"), objective.pairs
  least = 3 + pairs * (1 + objective.separators)
  if length < least:
    raise UserError(
      f"task_feature_lengths: 'inputs' is {length}, and a row of the classification has to hold"
      f" {least} tokens at least"
    )
  if objective.separators < 1:
    raise UserError(f"separators = {objective.separators}: texts need at least 1 between them")
  typed = pairs and objective.token_types
  layout = Layout({"encoder": length}, (*COLUMNS, TYPES) if typed else COLUMNS)
  return Classification(
    layout, objective.classes, objective.separators, objective.begin_id, objective.end_id,
    ("second",) if pairs else (),
  )  # fmt: skip
