"""A prediction of a step's time, from what is published of the chip and counted in the program.

A lower bound of three clocks. An operation takes as long as its products at the chip's peak, or as
its memory traffic, whichever is more. Collectives that other work may overlap cost only what they
take beyond that work; the others are added. Nothing is waited for and nothing runs below its peak,
so real steps are slower: `docs/scale.md` tells by how much, where runs are published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from mtm.scale.census import Body, Collective
from mtm.scale.topology import Topology


class Wire(NamedTuple):
  """What a collective costs on each chip.

  Attributes:
    ici, dcn: bytes that a chip sends within its slice, and to others.
    seconds: how long it takes.
  """

  ici: float
  dcn: float
  seconds: float


class Prediction(NamedTuple):
  """Seconds of a step on each chip.

  Attributes:
    step: all of it.
    compute: of its operations alone: products or memory, whichever is slower for each.
    products, memory: of all products at the peak, and of all memory traffic.
    links: of all collectives.
    exposed: of the collectives, what no other work hides.
  """

  step: float
  compute: float
  products: float
  memory: float
  links: float
  exposed: float


def wire(collective: Collective, topology: Topology) -> Wire:
  """The cost of one collective.

  Within a slice a group's rings run along all directions of the torus that it spans at once, both
  ways where the direction closes; between slices each chip sends its share.
  """
  span, chip = collective.span, topology.chip
  if collective.kind == "collective-permute":  # to one neighbour
    near = span.slices == 1
    rate = chip.link if near else chip.dcn
    seconds = collective.bytes / rate
    return Wire(collective.bytes * near, collective.bytes * (not near), seconds)
  inside = max(span.size // span.slices, 1)
  passes = _PASSES[collective.kind]
  sent = passes * collective.bytes
  ici = sent * (inside - 1) / inside if inside > 1 else 0.0
  dcn = sent / inside * (span.slices - 1) / span.slices
  seconds = 0.0
  if ici:
    rate = chip.link * sum(_ways(topology, axis, extent) for axis, extent in span.extents)
    rate = rate or 2 * chip.link  # two devices of one chip
    seconds = ici / rate
    if collective.kind in _EXCHANGES:  # what is sent far crosses many links
      rate = chip.link * max(_ways(topology, *extent) for extent in span.extents or ((0, 2),))
      seconds = max(seconds, collective.bytes * span.longest / 4 / rate)
  return Wire(ici, dcn, max(seconds, dcn / chip.dcn))


# How often the bytes of a collective leave each chip.
_PASSES: Mapping[str, float] = {
  "all-gather": 1, "reduce-scatter": 1, "all-reduce": 2, "all-to-all": 1, "ragged-all-to-all": 1,
  "collective-broadcast": 1,
}  # fmt: skip
_EXCHANGES = ("all-to-all", "ragged-all-to-all")


def _ways(topology: Topology, axis: int, extent: int) -> int:
  """Links along a direction: two where all of it is there and closes into a ring."""
  whole = axis < len(topology.shape) and topology.shape[axis] == extent
  return 2 if whole and extent >= topology.chip.ring else 1


def predict(
  body: Body, topology: Topology, kernels: float = 0.0, hidden: bool = False
) -> Prediction:
  """The time of a program.

  Args:
    body: what it does, see `census`.
    topology: where.
    kernels: FLOPs of each chip within kernels that the program calls by name alone.
    hidden: whether all collectives are taken as overlapped, as in a program that XLA did not
      schedule for speed.
  """
  chip = topology.chip
  step, exposed = _time(body, topology, hidden)
  products = (body.flops + kernels) / chip.flops
  compute = _compute(body, topology) + kernels / chip.flops
  links = math.fsum(times * wire(c, topology).seconds for times, c in body.communication())
  return Prediction(
    step + kernels / chip.flops, compute, products, body.bytes / chip.bandwidth, links, exposed
  )


def _operations(body: Body, topology: Topology) -> float:
  chip = topology.chip
  return math.fsum(max(w.flops / chip.flops, w.bytes / chip.bandwidth) for w in body.work)


def _compute(body: Body, topology: Topology) -> float:
  inner = math.fsum(_compute(b, topology) for b in body.inner)
  return body.trips * (_operations(body, topology) + inner)


def _time(body: Body, topology: Topology, hidden: bool) -> tuple[float, float]:
  """Seconds of a body, and those of them in which only links work."""
  own = _operations(body, topology)
  costs = {True: 0.0, False: 0.0}
  for collective in body.collectives:
    costs[collective.overlapped or hidden] += wire(collective, topology).seconds
  exposed = max(costs[True] - own, 0.0) + costs[False]
  inner = [_time(b, topology, hidden) for b in body.inner]
  total = own + exposed + math.fsum(step for step, _ in inner)
  waits = exposed + math.fsum(wait for _, wait in inner)
  return body.trips * total, body.trips * waits
