"""Cutting a pattern into blocks loses nothing and repeats nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtm.parts.patterns import Pattern, published
from mtm.parts.patterns._algebra import FULL
from mtm.parts.patterns._tiles import split, tiles
from mtm.parts.patterns.blocks import Blocks
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.global_places import Global
from mtm.parts.patterns.local_block import LocalBlock
from mtm.parts.patterns.memory import Memory
from mtm.parts.patterns.prefix import Prefix
from mtm.parts.patterns.random_blocks import RandomBlocks
from mtm.parts.patterns.segment import SameSegment
from mtm.parts.patterns.strided import Strided
from mtm.parts.patterns.summary import Summary
from mtm.parts.patterns.window import Window

small = st.integers(1, 9)
LEAVES = st.one_of(
  st.just(Full()),
  st.just(Causal()),
  st.builds(Window, st.integers(0, 9), st.integers(0, 9), st.integers(1, 4)),
  st.builds(Strided, small),
  st.builds(LocalBlock, small),
  st.builds(lambda stride, n: Summary(stride, min(n, stride)), small, small),
  st.builds(Global, st.one_of(st.integers(0, 5), st.lists(st.integers(0, 30)).map(tuple))),
  st.builds(Memory, st.integers(0, 9)),
  st.builds(
    lambda n, seed, block: RandomBlocks(n, seed, block, 32), st.integers(0, 3), small, small
  ),
)
PATTERNS = st.recursive(
  LEAVES,
  lambda inner: st.one_of(
    st.builds(lambda a, b: a & b, inner, inner),
    st.builds(lambda a, b: a | b, inner, inner),
    st.builds(lambda a: ~a, inner),
  ),
  max_leaves=4,
)


def joined(pattern: Pattern, q_len: int, k_len: int, block: int) -> np.ndarray:
  """The mask that the tiles add up to."""
  cut = tiles(pattern, q_len, k_len, block)
  out = np.zeros((cut.map.shape[0], block, cut.map.shape[1], block), bool)
  out[cut.row, :, cut.column] = cut.masks[cut.mask_id]
  return out.reshape(cut.map.shape[0] * block, -1)[:q_len, :k_len]


@settings(max_examples=150, deadline=None)
@given(PATTERNS, st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
def test_tiles_add_up_to_the_mask(pattern: Pattern, q_len: int, k_len: int, block: int) -> None:
  mask = np.asarray(pattern.mask(np.arange(q_len)[:, None], np.arange(k_len)[None]))
  mask = np.broadcast_to(mask, (q_len, k_len))
  np.testing.assert_array_equal(joined(pattern, q_len, k_len, block), mask)
  for row, column in np.argwhere(tiles(pattern, q_len, k_len, block).map == FULL):
    assert mask[row * block : (row + 1) * block, column * block : (column + 1) * block].all()


@settings(max_examples=60, deadline=None)
@given(PATTERNS, st.integers(0, 50))
def test_period_is_a_shift_that_changes_nothing(pattern: Pattern, start: int) -> None:
  period = pattern.period
  if not period:
    return
  q, k = start + np.arange(12)[:, None], start + np.arange(12)[None]
  both = (np.broadcast_to(pattern.mask(q + s, k + s), (12, 12)) for s in (0, period))
  np.testing.assert_array_equal(*both)


def test_masks_of_repeating_blocks_are_kept_once() -> None:
  cut = tiles(Window(100, 100), 4096, 4096, 64)
  assert len(cut.row) > 200 and len(cut.masks) <= 6


def test_many_places_need_no_array_of_all_pairs() -> None:
  """2³⁴ pairs: an array of them would be 16 GiB. The map alone is 1024² cells."""
  length = 2**17
  for pattern in (published.banded(256), published.longformer(256), published.etc(128, 64)):
    map_ = pattern.block_map(length, length, 128)
    assert map_.shape == (1024, 1024) and 0 < np.count_nonzero(map_) < 1024 * 8


def test_what_reads_labels_is_split_off() -> None:
  a, b = Causal(), Window(3, 0)
  assert split(a & b) == (a & b, None)
  assert split((a & SameSegment()) & b) == (a & b, SameSegment())
  assert split(SameSegment()) == (Full(), SameSegment())
  assert split(a | Prefix()) == (Full(), a | Prefix())
  assert split((a | Prefix()) & SameSegment() & b) == (b, (a | Prefix()) & SameSegment())


@pytest.mark.parametrize("block", [2, 4, 6, 8])
def test_a_table_of_blocks_is_cut_into_any_blocks(block: int) -> None:
  table = np.random.default_rng(0).random((6, 5)) < 0.4
  pattern = Blocks(table, 4)
  np.testing.assert_array_equal(
    joined(pattern, 24, 20, block), np.kron(table, np.ones((4, 4))).astype(bool)
  )
