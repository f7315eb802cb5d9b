"""Compiled programs as text (`compiled.as_text()`): their computations, shapes and loops."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{\s*$")
_NAME = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\](\{[^{}]*\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_OPERAND = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r"known_trip_count[^\d]*(\d+)")
_BITS = {"pred": 8, "s4": 4, "u4": 4, "f8e4m3fn": 8, "f8e5m2": 8, "bf16": 16}

HBM = 0  # the memory space of arrays without one; the others are on the chip, or the host's
HOST = 5


class Shape(NamedTuple):
  """An array of a program: its dtype as XLA writes it, its sizes, and the memory that holds it."""

  dtype: str
  sizes: tuple[int, ...]
  space: int = HBM

  @property
  def elements(self) -> int:
    """How many numbers."""
    return math.prod(self.sizes)

  @property
  def bytes(self) -> int:
    """Bytes, without padding."""
    bits = _BITS.get(self.dtype) or int(re.findall(r"\d+", self.dtype)[0])
    return math.ceil(self.elements * bits / 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: unique in its computation.
    opcode: such as `fusion`.
    shapes: of its value; several where it is a tuple, flat.
    operands: names of instructions.
    inside: what stands between its parentheses: a constant's value, a parameter's number.
    rest: what follows them: attributes and metadata.
    root: whether it is the computation's value.
  """

  name: str
  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  inside: str
  rest: str
  root: bool = False

  @property
  def bytes(self) -> int:
    """Of all its arrays, in whatever memory."""
    return sum(shape.bytes for shape in self.shapes)

  def attribute(self, name: str) -> str:
    """The text of `name=...` up to the next comma or space; empty where there is none."""
    found = re.search(rf"\b{name}=([^,\s]+)", self.rest)
    return found[1] if found else ""

  def called(self, *names: str) -> list[str]:
    """The computations that these attributes name, such as `calls` or `body`."""
    found = []
    for name in names:
      value = re.search(rf"\b{name}=(\{{[^}}]*\}}|%[\w.\-]+)", self.rest)
      found += _OPERAND.findall(value[1]) if value else []
    return found

  @property
  def op_name(self) -> str:
    """The path of the JAX operation that it came from."""
    found = re.search(r'op_name="([^"]*)"', self.rest)
    return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Computation:
  """Instructions by name, in the order in which they run."""

  name: str
  instructions: Mapping[str, Instruction]

  def __iter__(self) -> Iterator[Instruction]:
    return iter(self.instructions.values())

  def get(self, name: str) -> Instruction | None:
    """The instruction of this name."""
    return self.instructions.get(name)

  @functools.cached_property
  def root(self) -> Instruction:
    """Its value."""
    return next((i for i in self if i.root), list(self)[-1])

  @functools.cached_property
  def users(self) -> Mapping[str, list[Instruction]]:
    """Instruction → those that read it."""
    found: dict[str, list[Instruction]] = {}
    for instruction in self:
      for operand in instruction.operands:
        found.setdefault(operand, []).append(instruction)
    return found

  @functools.cached_property
  def parameters(self) -> dict[int, Instruction]:
    """Its parameters by number."""
    return {int(i.inside): i for i in self if i.opcode == "parameter"}


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled module.

  Attributes:
    computations: by name.
    entry: the one that runs.
  """

  computations: Mapping[str, Computation]
  entry: str

  def trips(self, loop: Instruction) -> int | None:
    """How often a `while` runs its body; None where the text does not tell."""
    told = _TRIPS.search(loop.rest)
    if told:
      return int(told[1])
    condition = self.computations.get((loop.called("condition") or [""])[0])
    if condition is None:
      return None
    constants = [
      int(i.inside) for i in condition
      if i.opcode == "constant" and re.fullmatch(r"\d+", i.inside)
    ]  # fmt: skip
    return constants[0] if len(constants) == 1 else None


def parse(text: str) -> Program:
  """Reads a module.

  Raises:
    ValueError: the text has no entry computation.
  """
  computations: dict[str, Computation] = {}
  entry, name = "", ""
  lines: dict[str, Instruction] = {}
  for line in text.splitlines():
    head = _HEAD.match(line)
    if head:
      name, lines = head[2], {}
      computations[name] = Computation(name, lines)
      entry = name if head[1] else entry
    elif name and (said := _NAME.match(line)):
      lines[said[2]] = _instruction(said[2], line[said.end() :], bool(said[1]))
  if not entry:
    raise ValueError("this is no compiled program: it has no ENTRY computation")
  return Program(computations, entry)


def shapes_of(text: str) -> tuple[Shape, ...]:
  """The arrays that a type names, of a tuple all of them."""
  return tuple(_shape(*groups) for groups in _ARRAY.findall(text))


def _shape(dtype: str, sizes: str, layout: str) -> Shape:
  space = _SPACE.search(layout)
  return Shape(dtype, tuple(int(n) for n in sizes.split(",") if n), int(space[1]) if space else HBM)


def _instruction(name: str, text: str, root: bool) -> Instruction:
  end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
  kind, text = text[:end], text[end:].lstrip()
  start = text.index("(")
  end = _closing(text, start)
  inside = text[start + 1 : end]
  operands = tuple(_OPERAND.findall(inside))
  return Instruction(
    name, text[:start], shapes_of(kind), operands, inside.strip(), text[end + 1 :], root
  )


def _closing(text: str, start: int) -> int:
  """The place of the parenthesis that closes the one at `start`."""
  depth = 0
  for place in range(start, len(text)):
    depth += {"(": 1, ")": -1}.get(text[place], 0)
    if depth == 0:
      return place
  return len(text)
