"""Heads that see different things."""

from __future__ import annotations

import dataclasses
import functools
import operator

from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.strided import Strided
from mtm.parts.patterns.window import Window


@dataclasses.dataclass(frozen=True)
class PerHead(Pattern):
  """Query head h has pattern `patterns[h]`. As one pattern it is what any of them sees.

  Attributes:
    patterns: one for each query head.
  """

  patterns: tuple[Pattern, ...]

  @property
  def by_head(self) -> tuple[Pattern, ...]:  # type: ignore[override]
    return self.patterns

  @property
  def positional(self) -> bool:  # type: ignore[override]
    return self._union.positional

  @property
  def period(self) -> int:  # type: ignore[override]
    return self._union.period

  @property
  def _union(self) -> Pattern:
    return functools.reduce(operator.or_, dict.fromkeys(self.patterns))

  def mask(self, q, k):
    return self._union.mask(q, k)

  def visible(self, q, k, labels):
    return self._union.visible(q, k, labels)

  def coarse(self, q_len, k_len, block):
    return self._union.coarse(q_len, k_len, block)


EXAMPLES = [PerHead((Causal() & Window(3, 0),) * 2 + (Causal() & Strided(4),) * 2)]
