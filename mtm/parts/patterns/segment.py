"""Packed documents do not see each other, and nothing sees padding."""

from __future__ import annotations

import dataclasses

from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns.causal import Causal


@dataclasses.dataclass(frozen=True)
class SameSegment(Pattern):
  """Query and key have the same label `segment`, and it is not 0 (padding)."""

  positional = False
  period = 1

  def mask(self, q, k):
    return (q >= 0) | (k >= 0)

  def visible(self, q, k, labels):
    of_query, of_key = labels["segment"]
    return (of_query == of_key) & (of_key > 0)


EXAMPLES = [SameSegment(), Causal() & SameSegment()]
