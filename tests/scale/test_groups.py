"""The members of a group, however XLA writes it, and how they lie on a torus."""

from __future__ import annotations

import pytest

from mtm.scale import groups
from mtm.scale.groups import Span
from mtm.scale.hlo import Instruction


@pytest.mark.parametrize(
  "rest, members",
  [
    (", replica_groups={{0,2},{1,3}}, to_apply=%add", [0, 2]),
    (", replica_groups=[2,4]<=[8]", [0, 1, 2, 3]),
    (", replica_groups=[4,2]<=[2,4]T(1,0)", [0, 4]),
    (", replica_groups=mesh['a'=2,'b'=4] {'b'}", [0, 1, 2, 3]),
    (", replica_groups=mesh['a'=2,'b'=4] {'a'}", [0, 4]),
    (", source_target_pairs={{3,0},{0,1}}", [3, 0]),
    (", replica_groups={}", [0, 1, 2, 3, 4, 5, 6, 7]),
  ],
)
def test_members_of_the_first_group(rest: str, members: list[int]) -> None:
  one = Instruction("c", "all-gather", (), (), "", rest)
  assert groups.members(one, 8) == members


def test_a_group_spans_the_directions_in_which_its_members_differ() -> None:
  places = [(s, x, y, 0) for s in range(2) for y in range(2) for x in range(4)]
  assert groups.span([0, 1, 2, 3], places) == Span(4, 1, ((0, 4),))
  assert groups.span(range(8), places) == Span(8, 1, ((0, 4), (1, 2)))
  assert groups.span([0, 8], places) == Span(2, 2, ())
  assert groups.span(range(8), places).longest == 4


def test_devices_without_coordinates_lie_in_a_row() -> None:
  assert groups.places_of([object(), object()]) == [(0, 0), (0, 1)]
