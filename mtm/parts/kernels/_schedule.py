"""In which order a block-sparse kernel goes through the blocks of a pattern.

A row of blocks is cut into pieces of equally many key blocks, and a step takes pieces of different
rows. Softmax over a row is put together from its pieces, so that a row that sees everything costs
what it must and no other row is filled up to it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns._tiles import ALL, NONE, Tiles, tiles

WIDEST = 16  # a piece may have so many key blocks even where a step then holds more than its budget
FILLED = 1.2  # by which factor loops may grow by what only fills up their steps


class Group(NamedTuple):
  """A loop over pieces, a few at a time, of different rows.

  Attributes:
    rows: int32 `[steps, at_once]`, which query blocks.
    columns: int32 `[steps, at_once, width]`, the key blocks of each.
    mask_id: int32 `[steps, at_once, width]`, which mask each pair of blocks has. Where rows or
      columns only fill up a step it is the empty one.
  """

  rows: np.ndarray
  columns: np.ndarray
  mask_id: np.ndarray

  @property
  def whole(self) -> bool:
    """Whether every pair of blocks is seen wholly or not at all."""
    return bool(np.isin(self.mask_id, (ALL, NONE)).all())


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
  """All blocks of a pattern in groups.

  Attributes:
    groups: the loops: pieces that are seen wholly and the others, or one for both where that leaves
      less to fill up; none where nothing is seen.
    masks: bool `[different, block, block]`, see `Tiles`.
  """

  groups: tuple[Group, ...]
  masks: np.ndarray


@functools.lru_cache(maxsize=64)
def schedule(
  pattern: Pattern, q_len: int, k_len: int, block: int, budget: int, lanes: int
) -> Schedule:
  """Orders the blocks of a positional pattern.

  Args:
    pattern: the pattern.
    q_len, k_len, block: see `Pattern.block_map`.
    budget: how many pairs of blocks one step may look at, if `lanes` pieces do not need more.
    lanes: a step has a multiple of so many pieces, unless that leaves much to fill up.
  """
  cut = tiles(pattern, q_len, k_len, block)
  rows = len(cut.map)
  start = np.searchsorted(cut.row, np.arange(rows + 1))
  width = _width(np.diff(start), max(budget // lanes, WIDEST))
  pieces: tuple[list[_Piece], list[_Piece]] = ([], [])
  for row in range(rows):
    own = np.arange(start[row], start[row + 1])
    for part in np.array_split(own, -(-len(own) // width)) if len(own) else ():
      pieces[bool((cut.mask_id[part] != ALL).any())].append((row, part))
  at_once = max(budget // (width * lanes), 1) * lanes
  apart = tuple(_group(cut, p, rows, at_once, lanes) for p in pieces if p)
  if len(apart) == 2:
    together = _group(cut, pieces[0] + pieces[1], rows, at_once, lanes)
    if sum(group.mask_id.size for group in apart) > FILLED * together.mask_id.size:
      apart = (together,)
  return Schedule(apart, cut.masks)


_Piece = tuple[int, np.ndarray]  # row, and which tiles


def _width(count: np.ndarray, most: int) -> int:
  """How many key blocks a piece has at most, where row i has `count[i]`: what needs fewest pairs
  of blocks with those that fill up, and where it is all one few pieces, each of which costs about
  as much as a pair."""
  widths = np.arange(1, max(min(int(count.max(initial=1)), most), 1) + 1)
  pieces = -(-count[None] // widths[:, None])
  return int(widths[np.argmin(pieces.sum(axis=1) * (widths + 1))])


def _group(cut: Tiles, pieces: list[_Piece], rows: int, at_once: int, lanes: int) -> Group:
  """Deals the pieces of each row out to steps, one to each."""
  pieces_of = np.bincount([row for row, _ in pieces], minlength=rows)
  width = max(len(part) for _, part in pieces)
  at_once = min(at_once, rows, -(-len(pieces) // lanes) * lanes)
  steps = max(-(-len(pieces) // at_once), int(pieces_of.max()))
  at_once = -(-len(pieces) // steps)
  if at_once + -at_once % lanes <= min(FILLED * at_once, rows):
    at_once += -at_once % lanes
  order = sorted(range(len(pieces)), key=lambda i: (-pieces_of[pieces[i][0]], pieces[i][0]))
  dealt = [[pieces[i] for i in order[step::steps]] for step in range(steps)]
  group = Group(
    np.zeros((steps, at_once), np.int32),
    np.zeros((steps, at_once, width), np.int32),
    np.full((steps, at_once, width), NONE, np.int32),
  )
  for step, own in enumerate(dealt):
    taken = [row for row, _ in own]
    free = np.setdiff1d(np.arange(rows), taken)[: at_once - len(own)]
    group.rows[step] = np.concatenate([np.asarray(taken, int), free])
    for at, (_, part) in enumerate(own):
      group.columns[step, at, : len(part)] = cut.column[part]
      group.mask_id[step, at, : len(part)] = cut.mask_id[part]
  return group
