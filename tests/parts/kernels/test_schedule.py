"""The order of a block-sparse kernel: every block once, and not many more."""

from __future__ import annotations

import pytest

from mtm.parts.kernels._schedule import WASTE, schedule
from mtm.parts.patterns import Pattern, published
from mtm.parts.patterns._tiles import NONE, tiles
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full

PATTERNS = {
  "causal": Causal(),
  "bigbird": published.bigbird(256, block=8),
  "strided": published.sparse_strided(16),
  "nothing": ~Full(),
}


@pytest.mark.parametrize("budget", [1, 7, 1000])
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_every_block_is_visited_once(pattern: Pattern, budget: int) -> None:
  plan, cut = schedule(pattern, 250, 256, 8, budget), tiles(pattern, 250, 256, 8)
  visited, places, done, all_pairs = [], {}, 0, 0
  for group in plan.groups:
    rows = group.rows.reshape(-1)
    columns, ids = (x.reshape(len(rows), -1) for x in (group.columns, group.mask_id))
    for at, row in enumerate(rows):
      real = ids[at] != NONE
      visited += [(row, c, m) for c, m in zip(columns[at][real], ids[at][real], strict=True)]
      if real.any():
        places[row] = done + at
    done += len(rows)
    all_pairs += ids.size
    steps, at_once, width = group.columns.shape
    assert at_once * width <= max(budget, width)
  wanted = sorted(zip(cut.row, cut.column, cut.mask_id, strict=True))
  assert sorted(visited) == wanted
  for row, place in enumerate(plan.place):
    assert place == places.get(row, done)
  if budget == 1:  # no row stands in for one that is missing
    assert all_pairs <= WASTE * len(wanted)
