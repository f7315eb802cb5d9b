"""Bytes that an instruction moves to and from a chip's main memory.

What a fusion computes within itself never leaves the chip. A loop over layers hands each of its
turns arrays of all layers, of which a turn reads or writes one slice: only that counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mtm.scale.hlo import HBM, Computation, Instruction, Program

# Names for arrays that are there already, and what holds other computations.
FREE = frozenset({
  "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call",
  "after-all", "partition-id", "replica-id", "iota", "domain", "add-dependency", "opt-barrier",
  "optimization-barrier",
})  # fmt: skip
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute",
               "ragged-all-to-all", "collective-broadcast")  # fmt: skip
_SLICES = ("dynamic-slice", "gather", "slice")
_NAMES = ("bitcast", "tuple", "get-tuple-element", "reshape")


_ACROSS = re.compile(r'_xla_megascale_transfer_type="(\w+)"')


def is_collective(instruction: Instruction) -> bool:
  """Whether it begins, or is, a communication between devices."""
  return instruction.opcode.removesuffix("-start") in COLLECTIVES


def across_slices(instruction: Instruction) -> str:
  """What kind of collective a `send` is part of, by which slices talk to each other; else empty."""
  told = _ACROSS.search(instruction.rest) if instruction.opcode == "send" else None
  return told[1].lower().replace("_", "-") if told else ""


def moved(instruction: Instruction, computation: Computation, program: Program) -> int:
  """Bytes that it reads from and writes to main memory."""
  opcode = instruction.opcode
  if opcode in FREE or opcode.endswith("-done") or opcode.endswith("-update"):
    return 0
  if opcode == "fusion":
    return _fusion(instruction, computation, program)
  operands = [found for name in instruction.operands if (found := computation.get(name))]
  if opcode in _SLICES:
    return 2 * _size([instruction])
  if opcode == "dynamic-update-slice":
    return 2 * _size(operands[1:2])
  if opcode.endswith("-start"):  # its value names what it reads, too
    shapes = instruction.shapes[:1] if opcode == "copy-start" else instruction.shapes[-1:]
    return sum(s.bytes for s in shapes if s.space == HBM) + _size(operands)
  return _size(operands) + _size([instruction])


def _size(instructions: Iterable[Instruction]) -> int:
  return sum(s.bytes for i in instructions for s in i.shapes if s.space == HBM)


def _fusion(instruction: Instruction, computation: Computation, program: Program) -> int:
  inner = program.computations.get((instruction.called("calls") or [""])[0])
  if inner is None:
    operands = [found for name in instruction.operands if (found := computation.get(name))]
    return _size(operands) + _size([instruction])
  read = 0
  for number, name in enumerate(instruction.operands):
    operand, parameter = computation.get(name), inner.parameters.get(number)
    if operand is not None and parameter is not None and _size([operand]):
      read += min(_read(parameter, inner), _size([operand]))
  return read + _written(inner.root, inner)


def _read(value: Instruction, inner: Computation) -> int:
  """Bytes of a parameter that a fusion reads."""
  total = 0
  for user in inner.users.get(value.name, ()):
    if user.opcode in _SLICES and user.operands[0] == value.name:
      total += user.bytes
    elif user.opcode == "dynamic-update-slice" and user.operands[0] == value.name:
      continue  # written in place
    elif user.opcode in _NAMES:
      total += 0 if user.root else _read(user, inner)
    elif is_collective(user) or user.opcode == "custom-call":
      continue  # counted where the collective is
    else:
      return value.bytes
  return total


def _written(root: Instruction, inner: Computation) -> int:
  """Bytes that a fusion's value writes."""
  if root.opcode == "tuple":
    parts = [found for name in root.operands if (found := inner.get(name))]
    return sum(_written(part, inner) for part in parts)
  if root.opcode == "bitcast":
    source = inner.get(root.operands[0])
    return _written(source, inner) if source is not None else _size([root])
  if root.opcode == "dynamic-update-slice":
    update = inner.get(root.operands[1])
    return 0 if root.shapes[0].space != HBM or update is None else update.bytes
  if root.opcode in ("parameter", "custom-call", "constant") or is_collective(root):
    return 0
  return _size([root])
