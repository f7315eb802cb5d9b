"""The first keys are seen by all."""

from __future__ import annotations

import dataclasses

import numpy as np

from mtm.parts.patterns._algebra import Pattern, by_flag
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.window import Window


@dataclasses.dataclass(frozen=True)
class Memory(Pattern):
  """k < n: side tokens before a sequence (LongT5's summaries, 2112.07916), or attention sinks.

  Unlike `Global` it says nothing of what the first queries see.
  """

  n: int

  def mask(self, q, k):
    return (k < self.n) & ((q >= 0) | (k >= 0))

  def coarse(self, q_len, k_len, block):
    nobody = np.zeros(-(-q_len // block) * block, bool)
    return by_flag(nobody, np.arange(-(-k_len // block) * block) < self.n, block)


EXAMPLES = [Memory(3), Causal() & (Window(2, 0) | Memory(1))]
