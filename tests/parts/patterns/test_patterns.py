"""Each pattern's own picture; the contract is in tests/contracts/test_patterns.py."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts import patterns
from mtm.parts.patterns._algebra import visible
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.chunks import Chunks
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.prefix import Prefix
from mtm.parts.patterns.segment import SameSegment
from mtm.parts.patterns.window import Window


def rows(pattern: patterns.Pattern, length: int, **labels: list[int]) -> list[str]:
  """The mask as strings of `#` and `.`, one a query."""
  pairs = {name: (jnp.asarray([value]),) * 2 for name, value in labels.items()}
  seen = visible(pattern, jnp.arange(length), jnp.arange(length), pairs)
  seen = np.broadcast_to(seen, (1, length, length))[0]
  return ["".join("#" if s else "." for s in row) for row in seen]


def test_causal_sees_itself_and_the_past() -> None:
  assert rows(Causal(), 3) == ["#..", "##.", "###"]


def test_full_sees_all() -> None:
  assert rows(Full(), 2) == ["##", "##"]


def test_window_sees_its_neighbourhood() -> None:
  assert rows(Window(1, 0), 4) == ["#...", "##..", ".##.", "..##"]
  assert rows(Window(1, 2), 4) == ["###.", "####", ".###", "..##"]
  assert rows(Window(1, 1, dilation=2), 5) == ["#.#..", ".#.#.", "#.#.#", ".#.#.", "..#.#"]


def test_chunks_see_themselves_and_their_neighbours() -> None:
  assert rows(Chunks(2), 5) == ["##...", "##...", "####.", "####.", "..###"]
  assert rows(Chunks(2, 0, 1), 5) == ["####.", "####.", "..###", "..###", "....#"]
  with pytest.raises(UserError, match="at least 1 place"):
    Chunks(0)


def test_prefix_is_bidirectional_and_what_follows_causal() -> None:
  assert rows(Causal() | Prefix(), 4, prefix=[1, 1, 0, 0]) == ["##..", "##..", "###.", "####"]
  assert rows(Causal() | Prefix(), 3) == ["#..", "##.", "###"], "no label: no prefix"


def test_segments_see_themselves_and_padding_sees_nothing() -> None:
  assert rows(SameSegment(), 4, segment=[1, 1, 2, 0]) == ["##..", "##..", "..#.", "...."]


def test_variants_are_found_by_name_and_others_are_not() -> None:
  assert patterns.Window is Window
  with pytest.raises(AttributeError, match="has no variant 'Windwo'"):
    _ = patterns.Windwo
