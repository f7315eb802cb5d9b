from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtm.data.features import Piece
from mtm.data.packing import POOL, Packer


def packed(sizes, lengths, pack=True):
  packer = Packer(lengths, pack)
  for i, size in enumerate(sizes):
    packer.add(Piece((0, 0, i, 0), ()), size)
  packer.flush()
  return [[piece.source[2] for piece in row] for row in packer.closed]


SIZES = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10)), max_size=200)


@given(SIZES, st.booleans())
def test_no_piece_is_lost_doubled_or_beyond_its_row(sizes, pack):
  rows = packed(sizes, (20, 10), pack)
  assert sorted(i for row in rows for i in row) == list(range(len(sizes)))
  for row in rows:
    assert sum(sizes[i][0] for i in row) <= 20 and sum(sizes[i][1] for i in row) <= 10


def test_without_packing_every_piece_has_a_row_in_order():
  assert packed([(3,), (1,), (2,)], (8,), pack=False) == [[0], [1], [2]]


def test_first_fit():
  # 6 opens a row, 5 another; 2 fits the first, 3 the second: both are full and closed in turn.
  assert packed([(6,), (5,), (2,), (3,)], (8,)) == [[0, 2], [1, 3]]


def test_the_fullest_row_makes_room():
  sizes = [(5,)] * 3 + [(6,)] + [(5,)] * (POOL - 4) + [(7,)]
  assert packed(sizes, (8,))[0] == [3]


def test_rows_are_nearly_full():
  sizes = [(int(n),) for n in np.random.default_rng(0).integers(1, 257, 5000)]
  rows = packed(sizes, (256,))
  # Pieces of uniform length; next fit, which keeps one row open, fills 75 %.
  assert sum(n for (n,) in sizes) / (256 * len(rows)) > 0.93


@given(SIZES, st.integers(0, 200))
def test_reopened_rows_go_on_as_if_never_closed(sizes, cut):
  cut = min(cut, len(sizes))
  first = Packer((20, 10), True)
  for i, size in enumerate(sizes[:cut]):
    first.add(Piece((0, 0, i, 0), ()), size)
  second = Packer((20, 10), True)
  second.closed.extend(first.closed)
  for row in first.open:
    second.reopen(list(row), [sizes[piece.source[2]] for piece in row])
  for packer in (first, second):
    for i, size in enumerate(sizes[cut:], cut):
      packer.add(Piece((0, 0, i, 0), ()), size)
    packer.flush()
  assert list(first.closed) == list(second.closed)
