"""A query sees every so many places."""

from __future__ import annotations

import dataclasses

import numpy as np

from mtm.errors import UserError
from mtm.parts.patterns._algebra import EMPTY, FULL, PARTIAL, Pattern, by_distance
from mtm.parts.patterns.causal import Causal


@dataclasses.dataclass(frozen=True)
class Strided(Pattern):
  """(q − k) is a multiple of `stride`: the columns of the Sparse Transformer (1904.10509)."""

  stride: int

  period = 1

  def __post_init__(self) -> None:
    at_least_one(self, "stride")

  def mask(self, q, k):
    return (q - k) % self.stride == 0

  def coarse(self, q_len, k_len, block):
    def decide(least, greatest):
      none = greatest // self.stride * self.stride < least  # no multiple between the two
      return np.where(none, EMPTY, FULL if self.stride == 1 else PARTIAL)

    return by_distance(q_len, k_len, block, decide)


def at_least_one(pattern: Pattern, *names: str) -> None:
  """Raises UserError unless these fields of `pattern` are positive."""
  for name in names:
    if getattr(pattern, name) < 1:
      raise UserError(f"{pattern}: {name} must be at least 1")


EXAMPLES = [Strided(4), Causal() & Strided(3)]
