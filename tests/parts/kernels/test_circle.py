"""Chunks of a shared sequence: all work is done once, and under a causal pattern all do as much."""

from __future__ import annotations

import numpy as np
import pytest

from mtm.parts.kernels._circle import circle
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.window import Window

CHOICES = [Causal(), Full(), Window(5, 2), Causal() & Window(40, 0)]


@pytest.mark.parametrize("ways", [1, 2, 8])
@pytest.mark.parametrize("pattern", CHOICES)
def test_every_block_that_the_pattern_touches_is_looked_at_once(pattern, ways) -> None:
  around = circle(pattern, 128, ways, 4)
  rows = np.asarray(pattern.block_map(128, 128, 4) > 0).reshape(-1, around.chunk_size // 4, 32)
  assert around.work().sum() == rows.any(axis=1).sum()


@pytest.mark.parametrize("ways", [2, 4, 8])
def test_all_devices_look_at_as_many_blocks_under_a_causal_pattern(ways) -> None:
  around = circle(Causal(), 64 * ways, ways, 4)
  assert around.folded
  work = around.work()
  assert (work == work[:, :1]).all()  # at every turn
  # The share of the busiest is the share of all pairs, and not near twice that.
  assert ways * around.share == pytest.approx(0.5 + 0.25 / ways, abs=0.03)


def test_a_window_is_not_folded_and_takes_two_turns_of_eight() -> None:
  around = circle(Causal() & Window(3, 0), 64, 8, 4)
  assert (around.folded, around.steps) == (False, (0, 1))
  assert circle(Window(3, 3), 64, 8, 4).steps == (0, 1, 7)


def test_a_length_that_cannot_be_folded_is_cut_once() -> None:
  assert not circle(Causal(), 12, 4, 4).folded
