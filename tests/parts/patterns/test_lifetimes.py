"""Which keys a decoder keeps: all that are seen later, and in as few slots as that takes."""

from __future__ import annotations

import numpy as np
import pytest

from mtm.parts.patterns import Pattern, published
from mtm.parts.patterns._lifetimes import lifetimes
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.prefix import Prefix
from mtm.parts.patterns.segment import SameSegment

LENGTH = 150
PATTERNS = {
  "causal": Causal(),
  "banded": published.banded(12),
  "strided": published.sparse_strided(9),
  "fixed": published.sparse_fixed(16, 3),
  "longformer": Causal() & published.longformer(10, 3),
  "dilated": Causal() & published.longformer(10, 0, dilation=3),
  "by_head": published.sparse_strided_by_head(8, 4),
}


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_a_key_is_there_for_every_query_that_sees_it(pattern: Pattern) -> None:
  lives = lifetimes(pattern, LENGTH)
  assert lives is not None
  holds = np.full(lives.slots + 1, -1)
  mask = np.asarray((pattern & Causal()).mask(np.arange(LENGTH)[:, None], np.arange(LENGTH)[None]))
  most = 0
  for query in range(LENGTH):
    holds[lives.slot[query]] = query
    assert set(np.flatnonzero(mask[query])) <= set(holds[: lives.slots])
    needed = mask[query:].any(axis=0) & (np.arange(LENGTH) <= query)
    most = max(most, np.count_nonzero(needed | (np.arange(LENGTH) == query)))
  assert lives.slots == most, "fewer slots would do"
  np.testing.assert_array_equal(
    lives.last, [max(np.flatnonzero(column), default=-1) for column in mask.T]
  )


def test_a_window_is_a_ring() -> None:
  lives = lifetimes(published.banded(8), 100)
  assert lives is not None and lives.slots == 8
  np.testing.assert_array_equal(lives.slot, np.arange(100) % 8)


def test_patterns_that_read_labels_have_none() -> None:
  assert lifetimes(Causal() | Prefix(), 10) is None
  assert lifetimes(Causal() & SameSegment(), 10) is None
