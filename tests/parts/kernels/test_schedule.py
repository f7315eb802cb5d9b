"""The order of a block-sparse kernel: every block once, and not many more."""

from __future__ import annotations

import numpy as np
import pytest

from mtm.parts.kernels._schedule import WIDEST, schedule
from mtm.parts.patterns import Pattern, published
from mtm.parts.patterns._tiles import ALL, NONE, tiles
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full

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
  (group,) = plan.groups
  assert group.columns.shape == (20, 4, 8)  # 62 rows of 8 and two of 64, which are 8 pieces each
  plan = schedule(published.longformer(512, 64), 4096, 4096, 64, 32, 4)
  pairs = np.concatenate([group.mask_id.reshape(-1) for group in plan.groups])
  assert np.mean(pairs == NONE) <= 0.15
