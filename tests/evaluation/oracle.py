"""A set of questions, and a speaker that needs no model."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mtm.evaluation.questions import Question, ask
from mtm.evaluation.scorer import Scored
from mtm.prompts.prompted import Prompted
from mtm.prompts.shots import Shots
from mtm.prompts.template import Template

COLOURS = ("red", "green", "dark blue")


def records(start: int, count: int) -> list[dict[str, Any]]:
  return [
    {"thing": f"thing{i}", "choices": COLOURS, "gold": i % 3} for i in range(start, start + count)
  ]


def colours(name: str = "colours", **changes: Any) -> Prompted:
  """Three choices, two templates."""
  fields: dict[str, Any] = {
    "cluster": "looks",
    "splits": {"train": lambda: records(100, 12), "test": lambda: records(0, 6)},
    "templates": (Template("asks", "Colour of {thing}?"), Template("is", "{thing} is")),
    **changes,
  }
  return Prompted(name, **fields)


def sums(name: str = "sums") -> Prompted:
  """Answered freely, with an extraction."""
  made = [{"q": f"{i} + 1", "answer": str(i + 1)} for i in range(5)]
  splits = {"train": lambda: made[3:], "validation": lambda: made[:3]}
  return Prompted(
    name, "numbers", splits, (Template("asks", "{q}?"),), ("exact_match",), r"is (-?\d+)"
  )


def questions(data: Prompted, k: int = 0, split: str = "test") -> list[Question]:
  return list(ask(data, data.templates[0], split, Shots(k)))


@dataclasses.dataclass
class Oracle:
  """Says what it is told to: `likes(inputs, text) → nats`, `writes(inputs, number) → texts`.

  Attributes:
    asked: every question, in order.
  """

  likes: Callable[[str, str], float]
  writes: Callable[[str, int], list[str]] = lambda inputs, number: ["?"]
  reads_encoder: bool = False
  context: int | None = None
  asked: list[Any] = dataclasses.field(default_factory=list)

  def likelihoods(
    self, questions: Sequence[tuple[str, Sequence[str]]], ended: bool | None = None
  ) -> list[list[Scored]]:
    """A token for each word."""
    self.asked += [inputs for inputs, _ in questions]
    return [[scored(self.likes(inputs, t), len(t.split())) for t in ts] for inputs, ts in questions]

  def rolling(self, texts: Sequence[str]) -> list[tuple[float, int]]:
    return [(self.likes("", text), len(text.split())) for text in texts]

  def texts(
    self, prompts: Sequence[str], max_length: int, policy: Any, seed: int, numbers: Sequence[int],
    until: Sequence[str],
  ) -> list[list[str]]:  # fmt: skip
    self.asked += prompts
    return [self.writes(*one)[: policy.width] for one in zip(prompts, numbers, strict=True)]

  def length(self, text: str) -> int:
    return len(text.split())

  def told(self) -> dict[str, Any]:
    return {"oracle": True}


def scored(total: float, tokens: int = 1) -> Scored:
  return Scored(np.full(tokens, total / max(tokens, 1)), False)


def noise(inputs: str, text: str) -> float:
  """The same nats for the same texts, from -9 to -1."""
  return -1 - 8 * (zlib.crc32(f"{inputs}|{text}".encode()) % 10_000) / 10_000
