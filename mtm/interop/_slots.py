"""What T5X's Adafactor keeps of each parameter that is a matrix: `v_row`, `v_col`, `v` and `m`.

Of a slot that is not used there is one zero. Whatever its rules say of the axes' names, matrices
are factored by size: `v_row` lies along the smaller side, or along the rows where both are equal,
and `v_col` along the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from mtm.families._names import Row
from mtm.interop import tree
from mtm.interop._base import Moments

KINDS = "v_row", "v_col", "v", "m"
Named = Iterator[tuple[str, np.ndarray]]


class Source(tree.Source, Protocol):
  """Arrays of T5X; see `mtm.interop.t5x.Indexed`."""

  @property
  def step(self) -> int:
    """How many steps were taken."""

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of an array."""

  def slot(self, name: str, kind: str) -> np.ndarray:
    """What an Adafactor keeps of a parameter."""


def of(parameter: str) -> str:
  """Where the state of a parameter `target/...` lies."""
  return parameter.replace("target", "state/param_states", 1)


def moments(source: Source, table: Sequence[Row]) -> Callable[[str], tuple[np.ndarray, ...]]:
  """See `Moments.of`; raises UserError where `Moments.refused` is not heeded."""
  row_of = {path: one for one in table for path in one.ours}

  def found(path: str) -> tuple[np.ndarray, ...]:
    one = row_of[path]
    names = [one.theirs[0]]
    if one.layered:
      numbered = (one.names(n)[0] for n in itertools.count())
      names = list(itertools.takewhile(source.names().__contains__, numbered))
    factored = source.slot(names[0], "v").size == 1 < source.slot(names[0], "v_row").size
    kinds = ("v_row", "v_col") if factored else ("v",)
    if factored and source.shape(names[0])[0] > source.shape(names[0])[1]:
      kinds = kinds[::-1]  # the rows' side is the larger
    parts = ([source.slot(name, kind) for name in names] for kind in kinds)
    return tuple(np.stack(each) if one.layered else each[0] for each in parts)

  return found


def slots(moments: Moments, table: Sequence[Row], params: Any = None) -> Named:
  """The inverse of `moments`: what T5X's state holds, `(name, values)`."""
  del params
  for one in table:
    found = moments.of(one.ours[0])
    layers = found[0].shape[0] if one.layered else 1
    for layer in range(layers):
      (name,) = one.names(layer)
      yield from named(name, *(x[layer] if one.layered else x for x in found))


def named(name: str, *found: np.ndarray) -> Named:
  """All slots of a matrix: of its second moments, or the averages along its rows and columns."""
  told = {"v": found[0]}
  if len(found) > 1:
    rows, columns = found
    smaller_first = found if rows.size <= columns.size else (columns, rows)
    told = dict(zip(("v_row", "v_col"), smaller_first, strict=True))
  yield from filled(name, told)


def filled(name: str, told: dict[str, np.ndarray]) -> Named:
  """All slots of a parameter, of those that are used."""
  for kind in KINDS:
    values = told.get(kind, np.zeros(1))
    yield f"{of(name)}/{kind}", np.ascontiguousarray(values, np.float32)
