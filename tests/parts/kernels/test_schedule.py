"""The order of a block-sparse kernel: every block once, and not many more."""

from __future__ import annotations

import numpy as np
import pytest

from mtm.parts.kernels._schedule import WIDEST, schedule
from mtm.parts.patterns import Pattern, published
from mtm.parts.patterns._tiles import ALL, NONE, tiles
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.window import Window

PATTERNS = {
  "causal": Causal(),
  "bigbird": published.bigbird(256, block=8),
  "strided": published.sparse_strided(16),
  "nothing": ~Full(),
}


@pytest.mark.parametrize("budget", [1, 7, 1000])
@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_every_block_is_visited_once(pattern: Pattern, lanes: int, budget: int) -> None:
  plan, cut = schedule(pattern, 250, 256, 8, budget, lanes), tiles(pattern, 250, 256, 8)
  visited, all_pairs = [], 0
  for group in plan.groups:
    steps, at_once, width = group.columns.shape
    assert at_once * width <= max(budget, lanes * max(width, WIDEST))
    for rows, columns, ids in zip(*group, strict=True):
      assert len(set(rows)) == at_once  # each row's output is written once in a step
      for row, column, mask_id in zip(rows, columns, ids, strict=True):
        real = mask_id != NONE
        visited += [(row, c, m) for c, m in zip(column[real], mask_id[real], strict=True)]
    all_pairs += group.mask_id.size
    assert group.whole == np.isin(group.mask_id, (ALL, NONE)).all()
  assert sorted(visited) == sorted(zip(cut.row, cut.column, cut.mask_id, strict=True))
  if budget == 1:  # little is looked at only to fill up a step
    assert all_pairs <= 1.4 * len(cut.row)


def test_more_lanes_than_rows_are_no_harm() -> None:
  (group,) = schedule(Full(), 16, 64, 8, 1000, 4).groups
  assert group.rows.shape[1] == 2


def test_a_row_that_sees_all_fills_up_no_other() -> None:
  plan = schedule(published.bigbird(4096), 4096, 4096, 64, 32, 4)
  # 60 rows of 7 or 8, two of 64, which are 8 pieces each, and two of 6: 607 pairs of blocks.
  assert [group.columns.shape for group in plan.groups] == [(19, 4, 8), (2, 1, 6)]
  plan = schedule(published.longformer(512, 64), 4096, 4096, 64, 32, 4)
  pairs = np.concatenate([group.mask_id.reshape(-1) for group in plan.groups])
  assert np.mean(pairs == NONE) <= 0.15


@pytest.mark.parametrize("pattern", [Causal(), published.sparse_strided(64)])
def test_narrower_pieces_have_a_loop_of_their_own_where_that_saves_much(pattern: Pattern) -> None:
  few, many = (schedule(pattern, n, n, 64, 32, 4).groups for n in (512, 4096))
  assert len({group.columns.shape[2] for group in few}) == 1
  assert len({group.columns.shape[2] for group in many}) == 2
  pairs = np.concatenate([group.mask_id.reshape(-1) for group in many])
  assert np.mean(pairs == NONE) <= 0.03  # it is a tenth in one loop


def test_neighbouring_rows_are_looked_at_together() -> None:
  inner, ends = schedule(Window(32, 32), 512, 512, 8, 64, 1).groups
  assert inner.rows.shape == (8, 7) and (np.diff(inner.rows, axis=1) == 1).all()
  assert ends.rows.tolist() == [[0, 1, 2, 3], [60, 61, 62, 63]]  # they see fewer
