"""A query sees itself and what came before."""

from __future__ import annotations

import dataclasses

import numpy as np

from mtm.parts.patterns._algebra import EMPTY, FULL, PARTIAL, Pattern, by_distance


@dataclasses.dataclass(frozen=True)
class Causal(Pattern):
  """A decoder's pattern: k ≤ q."""

  period = 1

  def mask(self, q, k):
    return k <= q

  def coarse(self, q_len, k_len, block):
    def decide(least, greatest):
      return np.where(greatest <= 0, FULL, np.where(least > 0, EMPTY, PARTIAL))

    return by_distance(q_len, k_len, block, decide)


EXAMPLES = [Causal()]
