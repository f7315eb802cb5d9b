"""A query sees its neighbourhood."""

from __future__ import annotations

import dataclasses

from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns.causal import Causal


@dataclasses.dataclass(frozen=True)
class Window(Pattern):
  """q − left·dilation ≤ k ≤ q + right·dilation, at multiples of `dilation` (2004.05150)."""

  left: int
  right: int
  dilation: int = 1

  def mask(self, q, k):
    away = k - q
    near = (away >= -self.left * self.dilation) & (away <= self.right * self.dilation)
    return near & (away % self.dilation == 0)


EXAMPLES = [Window(2, 1), Window(2, 2, dilation=3), Causal() & Window(3, 0)]
