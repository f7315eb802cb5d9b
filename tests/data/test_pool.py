from __future__ import annotations

import numpy as np
import scipy.stats

from mtm.data.features import Piece
from mtm.data.pool import MOST, TOKENS, Pool, size_for


def row(number):
  return [Piece((0, 0, number, 0), (np.array([number]),))]


def drawn(pool, count):
  """Gives out `count` of an endless sequence of rows."""
  numbers, out = iter(range(10**6)), []
  for _ in range(count):
    while not pool.full:
      pool.add(row(next(numbers)))
    out.append(pool.give()[0].source[2])
  return out


def test_room_for_one_row_keeps_the_order():
  assert drawn(Pool(1, 0), 50) == list(range(50))


def test_every_row_comes_out_once():
  pool = Pool(8, 0)
  out = drawn(pool, 100)
  while len(pool):
    out.append(pool.give()[0].source[2])
  assert sorted(out) == list(range(107))


def test_a_full_pool_gives_each_of_its_rows_with_the_same_probability():
  first = [drawn(Pool(8, seed), 1)[0] for seed in range(800)]
  # The seeds are fixed: a p-value this small would mean a biased draw.
  assert scipy.stats.chisquare(np.bincount(first, minlength=8)).pvalue > 1e-3


def test_a_restored_pool_gives_what_the_first_one_would():
  first, second = Pool(8, 3), Pool(8, 3)
  drawn(first, 20)
  second.restore(first.given, [row(source[2]) for (source,) in first.sources])
  for pool in (first, second):
    pool.add(row(99))
  assert [first.give()[0].source for _ in range(8)] == [second.give()[0].source for _ in range(8)]


def test_sources_are_those_of_the_rows_held():
  pool = Pool(8, 0)
  out = drawn(pool, 30)
  held = [source[2] for (source,) in pool.sources]
  assert len(held) == len(pool) and not set(held) & set(out)


def test_the_pool_holds_about_a_million_tokens_but_not_too_many_rows():
  assert size_for((512,)) == TOKENS // 512
  assert size_for((512, 512)) == TOKENS // 1024
  assert size_for((16,)) == MOST
  assert size_for((4 * TOKENS,)) == 1
