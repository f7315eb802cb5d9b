"""A pattern given as a table of blocks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mtm.errors import UserError
from mtm.parts.patterns._algebra import EMPTY, FULL, PARTIAL, Pattern, look_up
from mtm.parts.patterns.strided import at_least_one


@dataclasses.dataclass(frozen=True)
class Blocks(Pattern):
  """Query block i sees all of key block j where `array[i][j]`; beyond the table nothing is seen.

  Attributes:
    array: bool `[query blocks, key blocks]`, a numpy array or nested sequences; kept as tuples, so
      that patterns can be compared.
    block: places in a block.
  """

  array: Any
  block: int = 64

  def __post_init__(self) -> None:
    at_least_one(self, "block")
    table = np.asarray(self.array)
    if table.ndim != 2:
      raise UserError(f"Blocks takes an array [query blocks, key blocks], not one of {table.shape}")
    rows = tuple(tuple(bool(cell) for cell in row) for row in table)
    object.__setattr__(self, "array", rows)

  def mask(self, q, k):
    table = np.asarray(self.array)
    columns = table.shape[1]
    at = q // self.block * columns + k // self.block
    inside = (q >= 0) & (k >= 0) & (k < columns * self.block)
    return look_up(table.reshape(-1), at) & inside

  def coarse(self, q_len, k_len, block):
    if self.block % block and block % self.block:
      return super().coarse(q_len, k_len, block)
    rows, columns = -(-q_len // block), -(-k_len // block)
    if self.block % block == 0:  # ours are the larger ones
      ratio = self.block // block
      i, j = (np.arange(n) // ratio for n in (rows, columns))
      seen = self.mask(i[:, None] * self.block, j[None] * self.block)
      return np.where(seen, FULL, EMPTY).astype(np.int8)
    ratio = block // self.block
    i, j = (np.arange(n * ratio) * self.block for n in (rows, columns))
    seen = np.asarray(self.mask(i[:, None], j[None])).reshape(rows, ratio, columns, ratio)
    every, some = seen.all((1, 3)), seen.any((1, 3))
    return np.where(every, FULL, np.where(some, PARTIAL, EMPTY)).astype(np.int8)


EXAMPLES = [Blocks(((True, False, True), (False, True, False)), block=4)]
