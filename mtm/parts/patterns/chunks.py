"""A query sees its chunk and some neighbours of it."""

from __future__ import annotations

import dataclasses

import numpy as np

from mtm.errors import UserError
from mtm.parts.patterns._algebra import EMPTY, FULL, PARTIAL, Pattern
from mtm.parts.patterns.causal import Causal


@dataclasses.dataclass(frozen=True)
class Chunks(Pattern):
  """−before ≤ ⌊k / size⌋ − ⌊q / size⌋ ≤ after: Reformer's local attention (2001.04451, §5).

  Attributes:
    size: places of a chunk.
    before, after: neighbouring chunks that are seen too.
  """

  size: int
  before: int = 1
  after: int = 0

  def __post_init__(self) -> None:
    if self.size < 1 or self.before < 0 or self.after < 0:
      raise UserError(f"{self}: a chunk has at least 1 place, and at least 0 neighbours")

  @property
  def period(self) -> int:  # type: ignore[override]
    return self.size

  def mask(self, q, k):
    away = k // self.size - q // self.size
    return (away >= -self.before) & (away <= self.after)

  def coarse(self, q_len, k_len, block):
    def ends(length: int) -> tuple[np.ndarray, np.ndarray]:
      start = np.arange(0, length, block)
      return start // self.size, (start + block - 1) // self.size

    (q_low, q_high), (k_low, k_high) = ends(q_len), ends(k_len)
    least, greatest = k_low[None] - q_high[:, None], k_high[None] - q_low[:, None]
    whole = (least >= -self.before) & (greatest <= self.after)
    none = (least > self.after) | (greatest < -self.before)
    return np.where(whole, FULL, np.where(none, EMPTY, PARTIAL)).astype(np.int8)


EXAMPLES = [Chunks(3), Chunks(2, 0, 1), Causal() & Chunks(4)]
