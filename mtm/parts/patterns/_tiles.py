"""A pattern cut into blocks: which are not empty, and what each looks like inside.

What a sparse kernel needs, worked out once on the host. Blocks of real patterns repeat (a window
has a left edge, a right edge and nothing between), so that a few masks serve them all.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from mtm.parts.patterns._algebra import EMPTY, FULL, PARTIAL, And, Pattern
from mtm.parts.patterns.full import Full

ALL, NONE = 0, 1  # the first two masks
_AT_ONCE = 2**22  # pairs looked at in one numpy call: some tens of MB


@dataclasses.dataclass(frozen=True, eq=False)
class Tiles:
  """The non-empty blocks of a positional pattern, row by row.

  Attributes:
    map: int8 `[rows, columns]`, see `Pattern.block_map`.
    row, column: int32 `[tiles]`, sorted by row, then by column.
    mask_id: int32 `[tiles]`, which of `masks` a tile has.
    masks: bool `[different, block, block]`, queries by keys; the first is all, the second nothing.
  """

  map: np.ndarray
  row: np.ndarray
  column: np.ndarray
  mask_id: np.ndarray
  masks: np.ndarray


def split(pattern: Pattern) -> tuple[Pattern, Pattern | None]:
  """`pattern` as a positional one `&` the rest, which reads labels; None where there is no rest."""
  if pattern.positional:
    return pattern, None
  if not isinstance(pattern, And):
    return Full(), pattern
  (a, rest_a), (b, rest_b) = split(pattern.a), split(pattern.b)
  rest = rest_b if rest_a is None else rest_a if rest_b is None else And(rest_a, rest_b)
  return (b if a == Full() else a if b == Full() else And(a, b)), rest


@functools.lru_cache(maxsize=64)
def tiles(pattern: Pattern, q_len: int, k_len: int, block: int) -> Tiles:
  """Cuts `mask` of `pattern` into blocks of `block` × `block` places from place 0 on.

  Keys from `k_len` on are seen by nobody; a query from `q_len` on is like one before it, as nobody
  reads what it gets.
  """
  map_ = pattern.coarse(q_len, k_len, block).copy()
  if k_len % block:
    map_[:, -1] = np.minimum(map_[:, -1], PARTIAL)
  row, column = np.nonzero(map_ == PARTIAL)
  masks = [np.ones((block, block), bool), np.zeros((block, block), bool)]
  ids = {masks[ALL].tobytes(): ALL, masks[NONE].tobytes(): NONE}
  mask_id = np.empty(len(row), np.int32)
  first, same = _representatives(pattern, row, column, q_len, k_len, block)
  own = np.empty(len(first), np.int32)
  step = max(_AT_ONCE // block**2, 1)
  for start in range(0, len(first), step):
    chosen = first[start : start + step]
    seen = _look(pattern, row[chosen], column[chosen], q_len, k_len, block)
    for offset, mask in enumerate(seen):
      key = mask.tobytes()
      if key not in ids:
        ids[key] = len(masks)
        masks.append(mask)
      own[start + offset] = ids[key]
  mask_id = own[same] if len(row) else mask_id
  whole = FULL if pattern.positional else PARTIAL
  map_[row, column] = np.where(mask_id == NONE, EMPTY, np.where(mask_id == ALL, whole, PARTIAL))
  if not pattern.positional:
    map_ = np.minimum(map_, PARTIAL)
  every = np.full(map_.shape, ALL, np.int32)
  every[row, column] = mask_id
  row, column = np.nonzero(map_ != EMPTY)
  return Tiles(
    map_, row.astype(np.int32), column.astype(np.int32), every[row, column], np.stack(masks)
  )


def _representatives(
  pattern: Pattern, row: np.ndarray, column: np.ndarray, q_len: int, k_len: int, block: int
) -> tuple[np.ndarray, np.ndarray]:
  """Indices of tiles of which all others are copies, and for each tile the place of its own."""
  if not pattern.period or not len(row):
    return np.arange(len(row)), np.arange(len(row))
  turns = np.lcm(pattern.period, block) // block
  cut = (column == k_len // block) | (row == q_len // block)  # blocks that the end cuts
  key = np.stack([np.where(cut, -1 - row, row % turns), column - row, cut * column], axis=1)
  _, first, same = np.unique(key, axis=0, return_index=True, return_inverse=True)
  return first, same.reshape(-1)


def _look(
  pattern: Pattern, row: np.ndarray, column: np.ndarray, q_len: int, k_len: int, block: int
) -> np.ndarray:
  """The masks of some tiles, bool `[tiles, block, block]`."""
  inside = np.arange(block)
  q = np.minimum(row[:, None] * block + inside, q_len - 1)[:, :, None]
  k = (column[:, None] * block + inside)[:, None, :]
  shape = (len(row), block, block)
  return np.broadcast_to(np.asarray(pattern.mask(q, k)) & (k < k_len), shape).copy()
