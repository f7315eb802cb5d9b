"""What is published of each kind of TPU chip: rates, memory, links."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

GIB = 2**30


class Chip(NamedTuple):
  """A JAX device of this kind: a chip, or the half of one whose two cores are devices.

  Attributes:
    flops: dense bfloat16 FLOP/s.
    hbm: bytes of main memory.
    bandwidth: of main memory, bytes/s.
    link: of one ICI link in one direction, bytes/s.
    dcn: to other slices, bytes/s in one direction.
    ring: a slice this long in a direction of the torus closes into a ring there.
    platform: the name by which the compiler knows it.
    dimensions: of the torus.
    config: how its cores are devices.
    host: chips of a host, in each direction.
  """

  flops: float
  hbm: int
  bandwidth: float
  link: float
  dcn: float
  ring: int
  platform: str
  dimensions: int
  config: str = "default"
  host: tuple[int, int, int] = (2, 2, 1)


# cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x}: peak compute, HBM capacity and bandwidth, ICI
# bandwidth of a chip, and DCN bandwidth per chip or of a host's network cards.
# A link's one direction is the ICI bandwidth / (2 · links): v4 300 GB/s one way over 6 links; v5e
# 1,600 Gbit/s and v6e 3,200 Gbit/s one way over 4; v5p and tpu7x 1,200 GB/s both ways over 6.
# The DCN of v4 is not published for a chip: that of v5p is taken.
CHIPS: Mapping[str, Chip] = {
  "v4": Chip(275e12, 32 * GIB, 1228e9, 50e9, 6.25e9, 4, "v4", 3, "megacore"),
  "v5e": Chip(197e12, 16 * GIB, 819e9, 50e9, 3.125e9, 16, "v5e", 2),
  "v5p": Chip(459e12, 95 * GIB, 2765e9, 100e9, 6.25e9, 4, "v5", 3),
  "v6e": Chip(918e12, 32 * GIB, 1640e9, 100e9, 12.5e9, 16, "v6e", 2),
  # A chip is two devices, which share its memory and its links.
  "tpu7x": Chip(2307e12 / 2, 96 * GIB, 7380e9 / 2, 100e9 / 2, 12.5e9 / 2, 4, "tpu7x", 3),
}
