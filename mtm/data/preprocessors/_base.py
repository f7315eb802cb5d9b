"""The preprocessor seam: `build(objective, lengths) → Preprocessor`, named by an objective.

A preprocessor turns one tokenised example into pieces, each of which fits a row of the batch; its
`layout` names their columns. All randomness comes from the generator it is handed, which belongs to
this example.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Collection, Mapping

import numpy as np

from mtm.data.features import Layout
from mtm.errors import UserError, nearest

Columns = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Tokens:
  """What a preprocessor must know of a task's vocabulary.

  Attributes:
    vocab_size: ids, sentinels included.
    extra_ids: sentinels, which are the last ids.
    eos: feature → id that ends it, None where none is added.
    special: ids that stand for no text: padding, end, begin and unknown.
    word_starts: makes bool `[vocab_size]`: whether an id begins a word.
    begin, end: ids that begin and end a text, whether or not a task adds them; None: there is none.
    classes: how many values the task's `label` has; None: it has no label.
    endless: features that lose the end that a task has added.
  """

  vocab_size: int
  extra_ids: int
  eos: Mapping[str, int | None]
  special: tuple[int, ...]
  word_starts: Callable[[], np.ndarray]
  begin: int | None = None
  end: int | None = None
  classes: int | None = None
  endless: tuple[str, ...] = ()

  def body(self, feature: str, tokens: np.ndarray) -> np.ndarray:
    """`tokens` without an end that the task has added."""
    eos = self.eos[feature]
    return tokens[:-1] if len(tokens) and eos is not None and tokens[-1] == eos else tokens

  def ended(self, feature: str, body: np.ndarray) -> np.ndarray:
    """`body` with its end, where the feature has one and keeps it."""
    eos = None if feature in self.endless else self.eos[feature]
    return body if eos is None else np.append(body, np.int32(eos))

  def trimmed(self, feature: str, tokens: np.ndarray, length: int) -> np.ndarray:
    """At most `length` tokens, the end included: a trimmed sequence keeps its end."""
    room = length - (self.eos[feature] is not None and feature not in self.endless)
    return self.ended(feature, self.body(feature, tokens)[:room])


@dataclasses.dataclass(frozen=True)
class Preprocessor(abc.ABC):
  """Turns examples into pieces. Its `repr` tells every number that decides them.

  Attributes:
    layout: rows of the batch and columns of the pieces.
    static: whether an example gets the same pieces in every epoch.
  """

  layout: Layout
  static: bool = dataclasses.field(default=False, kw_only=True)

  def reads(self, available: Collection[str]) -> tuple[str, ...]:
    """The features it takes of a task that has those `available`.

    Raises:
      UserError: one is lacking.
    """
    return require(("targets",), available)

  def check(self, tokens: Tokens) -> None:  # noqa: B027 (nothing to check by default)
    """Raises UserError where the vocabulary does not serve."""

  @abc.abstractmethod
  def pieces(
    self, example: Mapping[str, np.ndarray], tokens: Tokens, rng: np.random.Generator
  ) -> list[Columns]:
    """The pieces of an example, in order.

    Args:
      example: feature → int32 `[length]` ids.
      tokens: facts of the vocabulary.
      rng: belongs to this example.

    Returns:
      for each piece its columns, in the order of `layout.columns`.
    """


def require(needed: tuple[str, ...], available: Collection[str]) -> tuple[str, ...]:
  """`needed`. Raises UserError when one of them is not `available`."""
  for name in needed:
    if name not in available:
      raise UserError(
        f"the objective needs the feature {name!r}, which the task lacks{nearest(name, available)}"
      )
  return needed


def length_of(lengths: Mapping[str, int], feature: str) -> int:
  """`lengths[feature]`.

  Raises:
    UserError: it is missing, or no positive number.
  """
  if feature not in lengths:
    raise UserError(
      f"task_feature_lengths {dict(lengths)} lacks {feature!r}, which the objective needs: "
      f"add '{feature}': <tokens>"
    )
  if lengths[feature] < 1:
    raise UserError(f"task_feature_lengths: {feature!r} is {lengths[feature]}, must be at least 1")
  return int(lengths[feature])


def split(tokens: np.ndarray, length: int) -> list[np.ndarray]:
  """Stretches of `length` tokens, and the rest (T5's `split_tokens`); `[]` of nothing."""
  return [tokens[i : i + length] for i in range(0, len(tokens), length)]


def document(tokens: Tokens, ids: np.ndarray) -> np.ndarray:
  """A task's targets with their end; nothing where there is no text."""
  body = tokens.body("targets", ids)
  return tokens.ended("targets", body) if len(body) else body
