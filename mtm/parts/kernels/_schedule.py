"""In which order a block-sparse kernel goes through the blocks of a pattern.

A row of blocks is cut into pieces of equally many key blocks, and a step takes pieces of different
rows. Softmax over a row is put together from its pieces, so that a row that sees everything costs
what it must and no other row is filled up to it.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
from typing import NamedTuple

import numpy as np

from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns._tiles import ALL, NONE, Tiles, tiles

WIDEST = 16  # a piece may have so many key blocks even where a step then holds more than its budget
FILLED = 1.2  # by which factor loops may grow by what only fills up their steps
STEP = 1 / 8  # what a step costs by itself, of what a full one costs
# What one more loop, which has to be compiled, has to save: pairs of blocks, and shares of a full
# step and of all steps.
LEAST, OF_STEP, OF_ALL = 12, 3 / 8, 1 / 128


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
    groups: the loops: pieces that are seen wholly and the others, or both together where that
      leaves less to fill up, and of each the narrower ones apart where that does; none where
      nothing is seen.
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
  deal = functools.partial(_by_width, rows=rows, budget=budget, at_once=at_once, lanes=lanes)
  loops = [part for kind in pieces if kind for part in deal(kind)]
  if all(pieces):
    together = deal(pieces[0] + pieces[1])
    if sum(part.pairs for part in loops) > FILLED * sum(part.pairs for part in together):
      loops = together
  return Schedule(tuple(_group(cut, part, rows) for part in loops), cut.masks)


_Piece = tuple[int, np.ndarray]  # row, and which tiles


def _width(count: np.ndarray, most: int) -> int:
  """How many key blocks a piece has at most, where row i has `count[i]`: what needs fewest pairs
  of blocks with those that fill up, and where it is all one few pieces, each of which costs about
  as much as a pair."""
  widths = np.arange(1, max(min(int(count.max(initial=1)), most), 1) + 1)
  pieces = -(-count[None] // widths[:, None])
  return int(widths[np.argmin(pieces.sum(axis=1) * (widths + 1))])


@dataclasses.dataclass(frozen=True)
class _Loop:
  """Pieces, and into how many steps of how many they are dealt out."""

  pieces: list[_Piece]
  steps: int
  at_once: int

  @functools.cached_property
  def width(self) -> int:
    return max(len(part) for _, part in self.pieces)

  @property
  def pairs(self) -> int:
    return self.steps * self.at_once * self.width

  def cost(self, budget: int) -> float:
    """In pairs of blocks, where a full step has `budget`."""
    return self.pairs + self.steps * (self.at_once + STEP * budget)


def _by_width(
  pieces: list[_Piece], rows: int, budget: int, at_once: int, lanes: int
) -> list[_Loop]:
  """One loop over pieces, or two, of which one has the narrower ones, where that saves enough."""
  best = [_loop(pieces, rows, at_once, lanes)]
  cost = best[0].cost(budget)
  cost -= max(LEAST, OF_STEP * budget, OF_ALL * cost)
  for width in sorted({len(part) for _, part in pieces})[:-1]:
    wide = [piece for piece in pieces if len(piece[1]) > width]
    narrow = [piece for piece in pieces if len(piece[1]) <= width]
    # Two steps at least: of a single one XLA makes no loop, and holds its arrays all the time.
    two = [_loop(p, rows, min(at_once, max(len(p) // 2, 1)), lanes) for p in (wide, narrow)]
    if (of_two := sum(part.cost(budget) for part in two)) < cost:
      best, cost = two, of_two
  return best


def _loop(pieces: list[_Piece], rows: int, at_once: int, lanes: int) -> _Loop:
  """As few steps as there can be: each takes `at_once` pieces at most, and one of a row."""
  pieces_of = np.bincount([row for row, _ in pieces], minlength=rows)
  at_once = min(at_once, rows, -(-len(pieces) // lanes) * lanes)
  steps = max(-(-len(pieces) // at_once), int(pieces_of.max()))
  at_once = -(-len(pieces) // steps)
  if at_once + -at_once % lanes <= min(FILLED * at_once, rows):
    at_once += -at_once % lanes
  return _Loop(pieces, steps, at_once)


def _group(cut: Tiles, loop: _Loop, rows: int) -> Group:
  """The arrays of a loop, whose steps are filled up with rows that they do not have."""
  group = Group(
    np.zeros((loop.steps, loop.at_once), np.int32),
    np.zeros((loop.steps, loop.at_once, loop.width), np.int32),
    np.full((loop.steps, loop.at_once, loop.width), NONE, np.int32),
  )
  for step, own in enumerate(_dealt(loop)):
    taken = [row for row, _ in own]
    free = np.setdiff1d(np.arange(rows), taken)[: loop.at_once - len(own)]
    group.rows[step] = np.concatenate([np.asarray(taken, int), free])
    for at, (_, part) in enumerate(own):
      group.columns[step, at, : len(part)] = cut.column[part]
      group.mask_id[step, at, : len(part)] = cut.mask_id[part]
  return group


def _dealt(loop: _Loop) -> list[list[_Piece]]:
  """The pieces of each step: of rows that have several dealt out one by one, from the row with most
  on, so that no step has two of a row; of the others neighbours together, which see much of the
  same, so that it is still in a cache."""
  pieces_of = collections.Counter(row for row, _ in loop.pieces)
  several = [piece for piece in loop.pieces if pieces_of[piece[0]] > 1]
  several.sort(key=lambda piece: (-pieces_of[piece[0]], piece[0]))
  others = iter([piece for piece in loop.pieces if pieces_of[piece[0]] == 1])
  dealt = [several[step :: loop.steps] for step in range(loop.steps)]
  return [own + list(itertools.islice(others, loop.at_once - len(own))) for own in dealt]
