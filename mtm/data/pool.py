"""Shuffling packed rows: the pieces of one long document do not follow each other."""

from __future__ import annotations

from typing import TypeVar

from mtm.data._random import Uniforms, named
from mtm.data.features import Piece, Source

T = TypeVar("T")

TOKENS = 1 << 20  # held ready, about: more of them mix better and take longer to fill
MOST = 4096  # rows: their sources are part of the saved state


class Pool:
  """Gives out one of the rows it holds, at random; with room for one row it keeps their order.

  Attributes:
    given: how many rows it has given out: decides, with the seed, which one is next.
    sources: those of the pieces of the rows it holds, kept at hand since every batch is saved.
  """

  def __init__(self, size: int, seed: int, shard: tuple[int, int] = (0, 1)) -> None:
    """An empty pool that wants to hold `size` rows before it gives one; `shard`: see `Mixing`."""
    self.given = 0
    self.sources: list[list[Source]] = []
    self._rows: list[list[Piece]] = []
    self._size = size
    self._uniforms = Uniforms(seed, named("rows", shard))

  def __len__(self) -> int:
    return len(self._rows)

  @property
  def full(self) -> bool:
    """Whether it holds as many rows as it wants."""
    return len(self._rows) >= self._size

  def add(self, row: list[Piece]) -> None:
    """Takes a packed row."""
    self._rows.append(row)
    self.sources.append([piece.source for piece in row])

  def give(self) -> list[Piece]:
    """A row; it must hold one."""
    i = int(self._uniforms[self.given] * len(self._rows))
    self.given += 1
    _take(self.sources, i)
    return _take(self._rows, i)

  def restore(self, given: int, rows: list[list[Piece]]) -> None:
    """Holds these rows, having given out so many."""
    self.given, self._rows, self.sources = given, [], []
    for row in rows:
      self.add(row)


def size_for(lengths: tuple[int, ...]) -> int:
  """How many rows of these lengths are worth holding."""
  return max(1, min(TOKENS // sum(lengths), MOST))


def _take(items: list[T], index: int) -> T:
  """Takes an item out; the last one moves to its place."""
  items[index], items[-1] = items[-1], items[index]
  return items.pop()
