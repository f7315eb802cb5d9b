"""Packing: several pieces share a row, none is split or dropped."""

from __future__ import annotations

from collections import deque

from mtm.data.features import Piece

POOL = 16  # open rows: more of them fill better, and make the saved state larger


class Packer:
  """First fit into a small pool of open rows; when a piece fits none, the fullest one is closed.

  The sides of a piece stay in one row: it fits where all of them fit.

  Args:
    lengths: tokens a row, of each side.
    pack: whether rows hold several pieces; otherwise every piece closes its row.
  """

  def __init__(self, lengths: tuple[int, ...], pack: bool) -> None:
    self._lengths = lengths
    self._pool = POOL if pack else 1
    self._alone = not pack
    self.closed: deque[list[Piece]] = deque()
    self.open: list[list[Piece]] = []
    self._free: list[list[int]] = []

  def add(self, piece: Piece, sizes: tuple[int, ...]) -> None:
    """Puts a piece, which takes `sizes` tokens of the sides, into a row."""
    i = self._first_fit(sizes)
    self.open[i].append(piece)
    free = self._free[i] = [room - size for room, size in zip(self._free[i], sizes, strict=True)]
    if self._alone or min(free) <= 0:
      self._close(i)

  def reopen(self, row: list[Piece], sizes: list[tuple[int, ...]]) -> None:
    """Puts back an open row of a saved state, after those that are open."""
    self.open.append(row)
    used = [sum(side) for side in zip(*sizes, strict=True)]
    self._free.append([n - taken for n, taken in zip(self._lengths, used, strict=True)])

  def flush(self) -> None:
    """Closes all rows, at the end of the data."""
    while self.open:
      self._close(0)

  def _first_fit(self, sizes: tuple[int, ...]) -> int:
    """The number of an open row that has room; a new one where none has."""
    for i, free in enumerate(self._free):
      if all(size <= room for size, room in zip(sizes, free, strict=True)):
        return i
    if len(self.open) == self._pool:
      self._close(min(range(self._pool), key=lambda i: sum(self._free[i])))
    self.open.append([])
    self._free.append(list(self._lengths))
    return len(self.open) - 1

  def _close(self, i: int) -> None:
    self.closed.append(self.open.pop(i))
    self._free.pop(i)
