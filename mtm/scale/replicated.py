"""Large arrays that chips hold whole, though the mesh could cut them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from mtm.scale.census import Body

LARGE = 64 * 2**20


class Giant(NamedTuple):
  """An array that is whole on every chip.

  Attributes:
    name: a parameter's path, or the operation that gathers it.
    bytes: on each chip.
    why: `kept`: it lies so all the time; `gathered`: the program makes it whole outside of loops.
  """

  name: str
  bytes: int
  why: str


def giants(state: Any, body: Body, devices: int) -> list[Giant]:
  """Arrays over 64 MiB of the state that nothing cuts, and what a program gathers whole.

  What a loop over layers gathers for one layer at a time, as ZeRO-3 does, is no giant.

  Args:
    state: shapes with shardings.
    body: what the program does, see `census`.
    devices: how many there are.
  """
  if devices == 1:
    return []
  found = []
  for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
    size = leaf.size * leaf.dtype.itemsize
    if size > LARGE and leaf.sharding.is_fully_replicated:
      name = jax.tree_util.keystr(path, simple=True, separator="/")
      found.append(Giant(name, size, "kept"))
  for times, collective in body.communication():
    whole = collective.span.size == devices and times == 1
    if collective.kind == "all-gather" and whole and collective.bytes > LARGE:
      found.append(Giant(collective.where, collective.bytes, "gathered"))
  return sorted(set(found), key=lambda giant: -giant.bytes)
