"""Some places are seen by all, at regular distances."""

from __future__ import annotations

import dataclasses

import numpy as np

from mtm.errors import UserError
from mtm.parts.patterns._algebra import Pattern, by_flag
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.local_block import LocalBlock


@dataclasses.dataclass(frozen=True)
class Summary(Pattern):
  """k mod stride ≥ stride − n: the last `n` places of each block of `stride` places, the summary
  columns of the fixed Sparse Transformer (1904.10509)."""

  stride: int
  n: int = 1

  def __post_init__(self) -> None:
    if not 1 <= self.n <= self.stride:
      raise UserError(f"{self}: n must be between 1 and the stride, {self.stride}")

  @property
  def period(self) -> int:  # type: ignore[override]
    return self.stride

  def mask(self, q, k):
    return (k % self.stride >= self.stride - self.n) & ((q >= 0) | (k >= 0))

  def coarse(self, q_len, k_len, block):
    nobody = np.zeros(-(-q_len // block) * block, bool)
    keys = np.arange(-(-k_len // block) * block) % self.stride >= self.stride - self.n
    return by_flag(nobody, keys, block)


EXAMPLES = [Summary(4, 1), Causal() & (LocalBlock(4) | Summary(4, 2))]
