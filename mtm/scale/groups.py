"""Who takes part in a collective, and which links lie between them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mtm.scale.hlo import Instruction

Place = tuple[int, ...]  # of a chip: the slice, then its coordinates

_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_LISTS = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_PAIRS = re.compile(r"source_target_pairs=\{\{(\d+),(\d+)\}")


class Span(NamedTuple):
  """A group of devices that talk to each other.

  Attributes:
    size: how many.
    slices: in how many slices they are.
    extents: for each direction of the torus that they differ in, at how many places.
  """

  size: int
  slices: int
  extents: tuple[tuple[int, int], ...]

  @property
  def longest(self) -> int:
    """The most places along one direction."""
    return max((extent for _, extent in self.extents), default=1)


def members(collective: Instruction, devices: int) -> list[int]:
  """The device numbers of the first group, or of the first pair.

  Args:
    collective: an instruction with `replica_groups` or `source_target_pairs`.
    devices: how many there are in all: the group where the text names none.
  """
  text = collective.rest
  if found := _PAIRS.search(text):
    return [int(found[1]), int(found[2])]
  if found := _MESH.search(text):
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", found[1]))
    inside = re.findall(r"'([^']+)'", found[2])
    grid = np.arange(math.prod(map(int, sizes.values()))).reshape([int(n) for n in sizes.values()])
    return grid[tuple(slice(None) if name in inside else 0 for name in sizes)].ravel().tolist()
  if found := _IOTA.search(text):
    groups, shape = _numbers(found[1]), _numbers(found[2])
    order = np.arange(math.prod(shape)).reshape(shape)
    order = order.transpose(_numbers(found[3])) if found[3] else order
    return order.reshape(groups)[0].tolist()
  if (found := _LISTS.search(text)) and found[1]:
    return _numbers(found[1])
  return list(range(devices))


def span(group: Sequence[int], places: Sequence[Place]) -> Span:
  """How a group of devices lies on the slices.

  Args:
    group: device numbers.
    places: of every device, by its number in the program.
  """
  where = [places[number] for number in group]
  slices = len({place[0] for place in where})
  first = [place[1:] for place in where if place[0] == where[0][0]]
  extents = tuple(
    (axis, len(values))
    for axis in range(len(first[0]))
    if len(values := {place[axis] for place in first}) > 1
  )
  return Span(len(group), slices, extents)


def places_of(devices: Iterable[object]) -> list[Place]:
  """The place of each device: its slice and its coordinates; on CPU its number."""
  counter = itertools.count()
  return [
    (getattr(device, "slice_index", 0) or 0, *(getattr(device, "coords", None) or (next(counter),)))
    for device in devices
  ]


def _numbers(text: str) -> list[int]:
  return [int(n) for n in text.split(",")]
