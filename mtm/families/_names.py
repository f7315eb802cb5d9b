"""One table language for checkpoints of other libraries: which of their tensors is which of ours.

A `Row` names some of our parameters, some of their tensors, and a transform that takes theirs to
ours and back, bit for bit. A family's table is a list of rows; what reads and writes files with it
lies in `mtm.interop`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

LAYER = "{}"  # stands for the number of a layer in a tensor's name
EXPERT = "<>"  # and for that of an expert


class Transform(Protocol):
  """A bijection between tensors of theirs and parameters of ours (of one layer or expert)."""

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Ours from theirs."""

  def save(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
    """Theirs from ours: the exact inverse."""


@dataclasses.dataclass(frozen=True)
class Row:
  """Some parameters and the tensors that hold them.

  Attributes:
    ours: paths in our parameter tree, `a/b/c`.
    theirs: tensor names; `{}` is a layer's number, and ours then has a leading axis of layers.
    transform: between one layer's, or one expert's.
    first, step: which layers: `first`, `first + step`, ... (a stack whose period is `step` blocks).
    optional: whether a checkpoint may lack the tensors; then `ours` is empty.
    experts: how many there are where each has tensors of its own: `<>` in their names is the
      number of one, and ours then has an axis of experts, behind that of layers; 0: they have none.
  """

  ours: tuple[str, ...]
  theirs: tuple[str, ...]
  transform: Transform
  first: int = 0
  step: int = 1
  optional: bool = False
  experts: int = 0

  @property
  def layered(self) -> bool:
    """Whether ours are stacked over layers."""
    return LAYER in self.theirs[0]

  def names(self, repeat: int) -> tuple[str, ...]:
    """Their names for one repetition of the stack, those of all experts."""
    layer = (repeat,) if self.layered else ()
    if not self.experts:
      return self.at(layer)
    return tuple(name for number in range(self.experts) for name in self.at((*layer, number)))

  def stacked(self, shape: Sequence[int]) -> tuple[int, ...]:
    """The leading axes of a parameter of ours along which theirs are stacked."""
    return tuple(shape[: self.layered + bool(self.experts)])

  def at(self, place: tuple[int, ...]) -> tuple[str, ...]:
    """Their names for one place along those axes."""
    layer = str(self.first + place[0] * self.step) if self.layered else ""
    expert = str(place[-1]) if self.experts else ""
    return tuple(name.replace(LAYER, layer).replace(EXPERT, expert) for name in self.theirs)


def row(ours: str, theirs: str, transform: Transform | None = None) -> Row:
  """A row of one parameter and one tensor."""
  return Row((ours,), (theirs,), transform or Same())


@dataclasses.dataclass(frozen=True)
class Same:
  """Kept as it is."""

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    return theirs

  save = load


@dataclasses.dataclass(frozen=True)
class Transposed:
  """torch's Linear keeps `[outputs, inputs]`, ours `[inputs, outputs]`."""

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    return tuple(np.ascontiguousarray(x.T) for x in theirs)

  save = load


@dataclasses.dataclass(frozen=True)
class Swapped:
  """The Linears of all experts in one: `[experts, outputs, inputs]` ↔ inputs first."""

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    return tuple(np.ascontiguousarray(x.swapaxes(-1, -2)) for x in theirs)

  save = load


@dataclasses.dataclass(frozen=True)
class IntoHeads:
  """A projection into heads: `[heads · head_dim, embed]` ↔ `[embed, heads, head_dim]`.

  Also its bias, `[heads · head_dim]` ↔ `[heads, head_dim]`. `transposed`: whether theirs is torch's
  Linear; otherwise it is `[embed, heads · head_dim]`.
  """

  heads: int
  transposed: bool = True

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    wide = (x.T if self.transposed else x for x in theirs)
    return tuple(np.ascontiguousarray(x).reshape(*x.shape[:-1], self.heads, -1) for x in wide)

  def save(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    wide = (x.reshape(*x.shape[:-2], -1) for x in ours)
    return tuple(np.ascontiguousarray(x.T if self.transposed else x) for x in wide)


@dataclasses.dataclass(frozen=True)
class FromHeads:
  """The projection out of heads: `[embed, heads · head_dim]` ↔ `[heads, head_dim, embed]`.

  `transposed` as in `IntoHeads`; otherwise theirs is `[heads · head_dim, embed]`.
  """

  heads: int
  transposed: bool = True

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    wide = (x.T if self.transposed else x for x in theirs)
    return tuple(np.ascontiguousarray(x).reshape(self.heads, -1, x.shape[-1]) for x in wide)

  def save(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    wide = (x.reshape(-1, x.shape[-1]) for x in ours)
    return tuple(np.ascontiguousarray(x.T if self.transposed else x) for x in wide)


@dataclasses.dataclass(frozen=True)
class Joined:
  """One tensor of theirs that holds `parts` of ours side by side along its `axis`, each then taken
  through `then`; GPT-2's `c_attn` holds query, key and value."""

  parts: int
  axis: int
  then: Transform = Same()

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    (whole,) = theirs
    return self.then.load(*np.split(whole, self.parts, axis=self.axis))

  def save(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    return (np.concatenate(self.then.save(*ours), axis=self.axis),)


def linear(ours: str, theirs: str, bias: bool = True) -> list[Row]:
  """A `Dense` and torch's Linear, `theirs.weight` and `theirs.bias`."""
  rows = [row(f"{ours}/kernel", f"{theirs}.weight", Transposed())]
  return [*rows, row(f"{ours}/bias", f"{theirs}.bias")] if bias else rows


def of_each_expert(rows: Sequence[Row], experts: int) -> list[Row]:
  """The rows for a bank of experts, where `<>` in their names is the number of one."""
  return [dataclasses.replace(r, experts=experts) for r in rows]


def norm(ours: str, theirs: str, bias: bool = True) -> list[Row]:
  """A `LayerNorm` (an `RMSNorm` without bias), `theirs.weight` and `theirs.bias`."""
  rows = [row(f"{ours}/scale", f"{theirs}.weight")]
  return [*rows, row(f"{ours}/bias", f"{theirs}.bias")] if bias else rows


def heads_in(ours: str, theirs: str, heads: int, bias: bool = True) -> list[Row]:
  """A projection into heads that is torch's Linear."""
  rows = [row(f"{ours}/kernel", f"{theirs}.weight", IntoHeads(heads))]
  return [*rows, row(f"{ours}/bias", f"{theirs}.bias", IntoHeads(heads))] if bias else rows


def heads_out(ours: str, theirs: str, heads: int, bias: bool = True) -> list[Row]:
  """The projection out of heads that is torch's Linear."""
  rows = [row(f"{ours}/kernel", f"{theirs}.weight", FromHeads(heads))]
  return [*rows, row(f"{ours}/bias", f"{theirs}.bias")] if bias else rows


def every(rows: Sequence[Row], first: int, step: int) -> list[Row]:
  """The rows for layers `first`, `first + step`, ... of a stack whose period is `step` blocks."""
  return [dataclasses.replace(r, first=first, step=step) for r in rows]
