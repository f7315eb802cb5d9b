"""In which order a block-sparse kernel goes through the blocks of a pattern."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns._tiles import NONE, Tiles, tiles

WASTE = 1.35  # rows that have this many times more blocks than others get a loop of their own


class Group(NamedTuple):
  """Query blocks with about equally many key blocks, a few at a time.

  Attributes:
    rows: int32 `[steps, at_once]`, which query blocks.
    columns: int32 `[steps, at_once, width]`, the key blocks of each.
    mask_id: int32 `[steps, at_once, width]`, which mask each pair of blocks has. Where rows or
      columns only fill up a group it is the empty one.
  """

  rows: np.ndarray
  columns: np.ndarray
  mask_id: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
  """All query blocks in groups.

  Attributes:
    groups: the loops.
    masks: bool `[different, block, block]`, see `Tiles`.
    place: int32 `[query blocks]`, where each stands in the joined groups; for one that sees nothing
      the place after the last.
  """

  groups: tuple[Group, ...]
  masks: np.ndarray
  place: np.ndarray


@functools.lru_cache(maxsize=64)
def schedule(pattern: Pattern, q_len: int, k_len: int, block: int, budget: int) -> Schedule:
  """Orders the blocks of a positional pattern.

  Args:
    pattern: the pattern.
    q_len, k_len, block: see `Pattern.block_map`.
    budget: how many pairs of blocks one step may look at, if one row does not need more.
  """
  cut = tiles(pattern, q_len, k_len, block)
  total = cut.map.shape[0]
  start = np.searchsorted(cut.row, np.arange(total + 1))
  count = np.diff(start)
  place = np.full(total, -1)
  groups, done = [], 0
  order = np.argsort(-count, kind="stable")
  order = order[: np.count_nonzero(count)]
  while len(order):
    width = int(count[order[0]])
    size = int(np.searchsorted(-count[order] * WASTE, -width, side="right"))
    rows, order = np.sort(order[:size]), order[size:]
    steps = -(-size // min(max(budget // width, 1), size))
    at_once = -(-size // steps)
    groups.append(_group(cut, start, rows, steps, at_once, width))
    place[rows] = done + np.arange(size)
    done += steps * at_once
  return Schedule(tuple(groups), cut.masks, np.where(place < 0, done, place).astype(np.int32))


def _group(
  cut: Tiles, start: np.ndarray, rows: np.ndarray, steps: int, at_once: int, width: int
) -> Group:
  size = steps * at_once
  columns = np.zeros((size, width), np.int32)
  mask_id = np.full((size, width), NONE, np.int32)
  for index, row in enumerate(rows):
    own = slice(start[row], start[row + 1])
    columns[index, : own.stop - own.start] = cut.column[own]
    mask_id[index, : own.stop - own.start] = cut.mask_id[own]
  filled = np.concatenate([rows, np.zeros(size - len(rows), rows.dtype)]).astype(np.int32)
  shape = (steps, at_once)
  return Group(filled.reshape(shape), columns.reshape(*shape, -1), mask_id.reshape(*shape, -1))
