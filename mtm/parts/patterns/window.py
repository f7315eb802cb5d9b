"""A query sees its neighbourhood."""

from __future__ import annotations

import dataclasses

import numpy as np

from mtm.parts.patterns._algebra import EMPTY, FULL, PARTIAL, Pattern, by_distance
from mtm.parts.patterns.causal import Causal


@dataclasses.dataclass(frozen=True)
class Window(Pattern):
  """q − left·dilation ≤ k ≤ q + right·dilation, at multiples of `dilation` (2004.05150)."""

  left: int
  right: int
  dilation: int = 1

  period = 1

  def mask(self, q, k):
    away = k - q
    near = (away >= -self.left * self.dilation) & (away <= self.right * self.dilation)
    return near & (away % self.dilation == 0)

  def coarse(self, q_len, k_len, block):
    low, high = -self.left * self.dilation, self.right * self.dilation

    def decide(least, greatest):
      whole = (least >= low) & (greatest <= high) & (self.dilation == 1)
      return np.where(whole, FULL, np.where((least > high) | (greatest < low), EMPTY, PARTIAL))

    return by_distance(q_len, k_len, block, decide)


EXAMPLES = [Window(2, 1), Window(2, 2, dilation=3), Causal() & Window(3, 0)]
