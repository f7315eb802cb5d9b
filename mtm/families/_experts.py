"""What families of experts share: layers of which some have experts where others have one net."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn

from mtm.families._names import Row, every
from mtm.parts.experts.dispatch import Dispatch
from mtm.parts.experts.dispatch.capacity import Capacity
from mtm.parts.experts.dispatch.dropless import Dropless

Sparse = tuple[bool, ...]  # of each layer of a period, whether it has experts


def one_in(step: int, layers: int) -> Sparse:
  """The period of layers of which one in `step` has experts: the second, or where `step` is 1 the
  only one; where `step` is 0 none has."""
  first = 1 if step > 1 else 0
  return period_of(tuple(step > 0 and number % step == first for number in range(layers)))


def period_of(layers: Sparse) -> Sparse:
  """The shortest period that all layers repeat."""
  count = len(layers)
  lengths = (n for n in range(1, count + 1) if layers[:n] * (count // n) == layers)
  return layers[: next(lengths)]


def with_experts(tower: Any, make: Callable[[], nn.Module], sparse: Sparse) -> Any:
  """A tower whose stack repeats one block, with experts in some of its layers.

  Args:
    tower: a `Tower` with so many repetitions of its one block that `sparse` divides them.
    make: makes the channel mixer that has experts.
    sparse: where it stands in the new period.
  """
  (dense,) = tower.stack.period

  def block(experts: bool) -> Any:
    layer = copy.deepcopy(dense)  # each has parameters of its own
    return layer.clone(channel=make()) if experts else layer

  period = tuple(block(experts) for experts in sparse)
  repeats = tower.stack.repeats // len(sparse)
  return tower.clone(stack=tower.stack.clone(period=period, repeats=repeats))


def dispatch_of(factor: float | None, places: int | None) -> Dispatch:
  """`Capacity` for that factor, or for so many places of each expert; `Dropless` for neither."""
  if factor is None and places is None:
    return Dropless()
  return Capacity(size=places) if factor is None else Capacity(factor, size=places)


def spread(
  rows: Sequence[Row], stack: str, sparse: Sparse, bank: Callable[[str], Sequence[Row]]
) -> list[Row]:
  """The name table of `with_experts` from that of the dense layers.

  Args:
    rows: those of the dense model, whose stack repeats one block.
    stack: path of the stack.
    sparse: which layers of a period have experts.
    bank: path of a channel mixer with experts → its rows.
  """
  head, length = f"{stack}/period_0/", len(sparse)
  found = [r for r in rows if not r.ours[0].startswith(head)]
  layer = [r for r in rows if r.ours[0].startswith(head)]
  for number, experts in enumerate(sparse):
    here = f"{stack}/period_{number}/"
    kept = [r for r in layer if not (experts and r.ours[0].startswith(f"{head}channel/"))]
    moved = [
      dataclasses.replace(r, ours=tuple(here + path.removeprefix(head) for path in r.ours))
      for r in kept
    ]
    found += every([*moved, *(bank(f"{here}channel") if experts else ())], number, length)
  return found
