"""A query sees the block that it is in."""

from __future__ import annotations

import dataclasses

import numpy as np

from mtm.parts.patterns._algebra import EMPTY, FULL, PARTIAL, Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.strided import at_least_one


@dataclasses.dataclass(frozen=True)
class LocalBlock(Pattern):
  """⌊q / size⌋ = ⌊k / size⌋: the rows of the fixed Sparse Transformer (1904.10509)."""

  size: int

  def __post_init__(self) -> None:
    at_least_one(self, "size")

  @property
  def period(self) -> int:  # type: ignore[override]
    return self.size

  def mask(self, q, k):
    return q // self.size == k // self.size

  def coarse(self, q_len, k_len, block):
    def ends(length: int) -> tuple[np.ndarray, np.ndarray]:
      start = np.arange(0, length, block)
      return start // self.size, (start + block - 1) // self.size

    (q_low, q_high), (k_low, k_high) = ends(q_len), ends(k_len)
    apart = (q_high[:, None] < k_low[None]) | (k_high[None] < q_low[:, None])
    one = (q_low == q_high)[:, None] & (k_low == k_high)[None] & ~apart
    return np.where(one, FULL, np.where(apart, EMPTY, PARTIAL)).astype(np.int8)


EXAMPLES = [LocalBlock(4), Causal() & LocalBlock(3)]
