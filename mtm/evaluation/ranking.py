"""Rules that rank choices by their log-likelihoods. All the rules of a run share one pass."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mtm.evaluation.questions import Question
from mtm.evaluation.scorer import Scored


class Rule(Protocol):
  """Says which choice is the answer."""

  @property
  def name(self) -> str:
    """Of its results."""

  def others(self, question: Question) -> list[str]:
    """Further inputs after which the choices are to be scored too."""

  def scores(
    self, question: Question, own: Sequence[Scored], others: Sequence[Sequence[Scored]]
  ) -> np.ndarray:
    """float64 `[choices]`: the largest is the answer; their softmax is the model's confidence.

    Args:
      question: whose choices.
      own: what the model says of each choice after the question.
      others: and after each of `others`.
    """


class _Alone(abc.ABC):
  """A rule that looks at the question alone."""

  def others(self, question: Question) -> list[str]:
    """None."""
    del question
    return []

  @abc.abstractmethod
  def scores(
    self, question: Question, own: Sequence[Scored], others: Sequence[Sequence[Scored]]
  ) -> np.ndarray:
    """See `Rule.scores`."""


@dataclasses.dataclass(frozen=True)
class Sum(_Alone):
  """The log-likelihood of the whole choice."""

  name: str = "sum"

  def scores(
    self, question: Question, own: Sequence[Scored], others: Sequence[Sequence[Scored]]
  ) -> np.ndarray:
    """See `Rule.scores`."""
    return totals(own)


@dataclasses.dataclass(frozen=True)
class PerToken(_Alone):
  """The mean over the choice's tokens (2005.14165, §2.4)."""

  name: str = "per_token"

  def scores(
    self, question: Question, own: Sequence[Scored], others: Sequence[Sequence[Scored]]
  ) -> np.ndarray:
    """See `Rule.scores`."""
    return totals(own) / np.maximum([len(choice.log_probs) for choice in own], 1)


@dataclasses.dataclass(frozen=True)
class PerByte(_Alone):
  """The log-likelihood by the UTF-8 bytes of the choice, which no tokenizer changes."""

  name: str = "per_byte"

  def scores(
    self, question: Question, own: Sequence[Scored], others: Sequence[Sequence[Scored]]
  ) -> np.ndarray:
    """See `Rule.scores`."""
    return totals(own) / np.maximum([len(text.encode()) for text in question.choices], 1)


@dataclasses.dataclass(frozen=True)
class PMI:
  """Pointwise mutual information with the question (2104.08315; GPT-3's unconditional likelihood):
  the log-likelihood minus that after the template alone, its fields empty and nothing before it."""

  name: str = "pmi"

  def others(self, question: Question) -> list[str]:
    """The template alone."""
    return [question.blank("", exemplars=False)]

  def scores(
    self, question: Question, own: Sequence[Scored], others: Sequence[Sequence[Scored]]
  ) -> np.ndarray:
    """See `Rule.scores`."""
    return totals(own) - totals(others[0])


@dataclasses.dataclass(frozen=True)
class Calibrated:
  """Contextual calibration (2102.09690): the probabilities of choices, divided by their mean after
  the same exemplars and a question without content.

  Attributes:
    name: of its results.
    contents: what stands in the fields of such questions.
  """

  name: str = "calibrated"
  contents: tuple[str, ...] = ("N/A", "[MASK]", "")

  def others(self, question: Question) -> list[str]:
    """The questions without content."""
    return [question.blank(text, exemplars=True) for text in self.contents]

  def scores(
    self, question: Question, own: Sequence[Scored], others: Sequence[Sequence[Scored]]
  ) -> np.ndarray:
    """See `Rule.scores`."""
    empty = np.mean([np.exp(log_softmax(totals(found))) for found in others], axis=0)
    return log_softmax(totals(own)) - np.log(np.maximum(empty, 1e-300))


def totals(scored: Sequence[Scored]) -> np.ndarray:
  """Their log-likelihoods, float64 `[choices]`."""
  return np.array([choice.total for choice in scored])


def log_softmax(scores: np.ndarray) -> np.ndarray:
  """Of a vector."""
  return scores - np.logaddexp.reduce(scores)
