"""The closed forms of the roofline."""

from __future__ import annotations

import pytest

from mtm.scale import roofline, topology
from mtm.scale.census import Body, Collective, Work
from mtm.scale.groups import Span

V5P, V5E = topology.parse("v5p:8x8x8"), topology.parse("v5e:4x4")


def test_an_operation_takes_the_longer_of_its_products_and_its_memory() -> None:
  chip = V5P.chip
  body = Body(10, [Work(int(chip.flops), 0), Work(0, int(2 * chip.bandwidth))], [], [])
  found = roofline.predict(body, V5P)
  assert found.step == pytest.approx(30) and found.compute == pytest.approx(30)
  assert (found.products, found.memory) == pytest.approx((10, 20))
  assert roofline.predict(body, V5P, kernels=chip.flops).step == pytest.approx(31)


@pytest.mark.parametrize(
  "kind, passes", [("all-gather", 1), ("reduce-scatter", 1), ("all-reduce", 2)]
)
def test_a_ring_sends_all_but_ones_own_share_both_ways(kind: str, passes: int) -> None:
  wire = roofline.wire(Collective(kind, 8 * 10**9, Span(8, 1, ((0, 8),)), False), V5P)
  assert wire.ici == pytest.approx(passes * 7e9)
  assert wire.seconds == pytest.approx(passes * 7e9 / (2 * V5P.chip.link))


def test_more_directions_are_more_links_and_a_part_of_one_is_no_ring() -> None:
  def seconds(*extents: tuple[int, int]) -> float:
    size = 1
    for _, extent in extents:
      size *= extent
    one = Collective("all-gather", 10**9, Span(size, 1, extents), False)
    return roofline.wire(one, V5P).seconds / ((size - 1) / size)

  whole = seconds((0, 8))
  assert seconds((0, 8), (1, 8)) == pytest.approx(whole / 2)
  assert seconds((0, 4)) == pytest.approx(2 * whole)
  # The slice of 4 x 4 is no torus: only a whole v5e pod closes.
  flat = Collective("all-gather", 10**9, Span(4, 1, ((0, 4),)), False)
  assert roofline.wire(flat, V5E).seconds == pytest.approx(0.75e9 / V5E.chip.link)


def test_between_slices_each_chip_sends_its_share() -> None:
  one = Collective("all-reduce", 8 * 10**9, Span(16, 2, ((0, 8),)), False)
  wire = roofline.wire(one, V5P)
  assert wire.dcn == pytest.approx(2 * 8e9 / 8 / 2)
  assert wire.seconds == pytest.approx(wire.dcn / V5P.chip.dcn)


def test_an_exchange_pays_for_distance() -> None:
  one = Collective("all-to-all", 10**9, Span(8, 1, ((0, 8),)), False)
  assert roofline.wire(one, V5P).seconds == pytest.approx(1e9 * 8 / 4 / (2 * V5P.chip.link))


def test_a_neighbour_is_one_link_away() -> None:
  one = Collective("collective-permute", 10**9, Span(2, 1, ((0, 2),)), False)
  assert roofline.wire(one, V5P) == (1e9, 0, pytest.approx(1e9 / V5P.chip.link))


def test_only_what_other_work_does_not_hide_is_added() -> None:
  gather = Collective("all-gather", 8 * 10**9, Span(8, 1, ((0, 8),)), True)
  cost = roofline.wire(gather, V5P).seconds
  work = [Work(int(V5P.chip.flops * cost / 2), 0)]
  hidden = roofline.predict(Body(2, work, [gather], []), V5P)
  assert hidden.step == pytest.approx(2 * cost) and hidden.exposed == pytest.approx(cost)
  waited = roofline.predict(Body(2, work, [gather._replace(overlapped=False)], []), V5P)
  assert waited.step == pytest.approx(3 * cost) and waited.exposed == pytest.approx(2 * cost)
  quick = roofline.predict(Body(2, work, [gather._replace(overlapped=False)], []), V5P, hidden=True)
  assert quick == hidden
