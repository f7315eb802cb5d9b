"""Each block of queries sees a few blocks of keys, drawn at random once."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from mtm.errors import UserError
from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns.blocks import Blocks
from mtm.parts.patterns.strided import at_least_one


@dataclasses.dataclass(frozen=True)
class RandomBlocks(Pattern):
  """`n` different key blocks for each query block, uniformly (BigBird, 2007.14062).

  The draw is part of the pattern: training, evaluation and every device have the same.

  Attributes:
    n: key blocks of each query block.
    seed: of the draw.
    block: places in a block.
    length: the longest sequence; places from there on see and are seen by nobody, and a shorter
      sequence keeps those of its blocks that lie inside.
  """

  n: int
  seed: int = 0
  block: int = 64
  length: int = 4096

  def __post_init__(self) -> None:
    at_least_one(self, "block", "length")
    if not 0 <= self.n <= -(-self.length // self.block):
      raise UserError(f"{self}: n must lie between 0 and the number of blocks")

  def mask(self, q, k):
    return _drawn(self).mask(q, k)

  def coarse(self, q_len, k_len, block):
    return _drawn(self).coarse(q_len, k_len, block)


@functools.lru_cache(maxsize=16)
def _drawn(pattern: RandomBlocks) -> Blocks:
  count = -(-pattern.length // pattern.block)
  rng = np.random.default_rng(pattern.seed)
  table = np.zeros((count, count), bool)
  for row in table:
    row[rng.choice(count, pattern.n, replace=False)] = True
  return Blocks(table, pattern.block)


EXAMPLES = [RandomBlocks(2, block=2, length=10), RandomBlocks(1, seed=3, block=4, length=64)]
