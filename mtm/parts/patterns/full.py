"""Every query sees every key."""

from __future__ import annotations

import dataclasses

import numpy as np

from mtm.parts.patterns._algebra import FULL, Pattern


@dataclasses.dataclass(frozen=True)
class Full(Pattern):
  """An encoder's pattern."""

  period = 1

  def mask(self, q, k):
    return (q >= 0) | (k >= 0)

  def coarse(self, q_len, k_len, block):
    return np.full((-(-q_len // block), -(-k_len // block)), FULL, np.int8)


EXAMPLES = [Full(), ~(~Full())]
