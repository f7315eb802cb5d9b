"""FLOPs of the matrix products in a compiled program: `dot` and `convolution`.

On TPU every product is a convolution, and a product over several axes one with a window that slides
over padding and holes: only places where it meets values count, as the hardware skips the others.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import numpy as np

from mtm.scale.hlo import Computation, Instruction, Shape

_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_WINDOW = re.compile(r"window=\{([^}]*)\}")


def flops(instruction: Instruction, computation: Computation) -> int:
  """2mkn for a product of an m×k and a k×n matrix; 0 for what is no product."""
  count = _COUNTS.get(instruction.opcode)
  if count is None:
    return 0
  operands = [computation.get(name) for name in instruction.operands[:2]]
  shapes = [operand.shapes[0] for operand in operands if operand is not None]
  return count(instruction, shapes) if len(shapes) == 2 else 0


def _dot(instruction: Instruction, shapes: Sequence[Shape]) -> int:
  axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)
  contracted = [int(a) for a in axes[1].split(",") if a] if axes else []
  depth = int(np.prod([shapes[0].sizes[a] for a in contracted], dtype=np.int64))
  return 2 * instruction.shapes[0].elements * depth


def _convolution(instruction: Instruction, shapes: Sequence[Shape]) -> int:
  labels = _LABELS.search(instruction.rest)
  if labels is None:
    return 0
  left, kernel, out = labels.groups()
  window = _window(instruction.rest)
  value = instruction.shapes[0].sizes
  # The kernel's input features are those of one group already.
  total = value[out.index("b")] * value[out.index("f")] * shapes[1].sizes[kernel.index("i")]
  for number, axis in enumerate(sorted(set(left) - {"b", "f"})):
    total *= _meetings(
      shapes[0].sizes[left.index(axis)],
      value[out.index(axis)],
      *(window.get(name, [default] * (number + 1))[number] for name, default in _FIELDS),
    )
  return 2 * total


# The fields of a window, an entry for each axis, with what they are where they are not told.
_FIELDS = (
  ("size", (1,)), ("stride", (1,)), ("pad", (0, 0)), ("lhs_dilate", (1,)), ("rhs_dilate", (1,)),
)  # fmt: skip


def _window(text: str) -> dict[str, list[tuple[int, ...]]]:
  told = _WINDOW.search(text)
  fields = (item.split("=") for item in (told[1].split() if told else []))
  return {
    name: [tuple(map(int, entry.split("_"))) for entry in value.split("x")]
    for name, value in fields
    if name in dict(_FIELDS)
  }


@functools.cache
def _meetings(
  length: int,
  out: int,
  size: tuple[int, ...],
  stride: tuple[int, ...],
  pad: tuple[int, ...],
  holes: tuple[int, ...],
  spread: tuple[int, ...],
) -> int:
  """How many pairs of a place in the result and one in the window meet a value along an axis.

  Args:
    length, out: sizes of the axis in the operand and the result.
    size, stride, pad, holes, spread: of the window: its size and steps, padding before and after,
      the dilation of the operand and of the window.
  """
  if size[0] == 1 and out * stride[0] <= length:
    return out
  starts = np.arange(out, dtype=np.int64) * stride[0] - pad[0]
  total = 0
  for place in range(size[0]):
    at = starts + place * spread[0]
    inside = (at >= 0) & (at <= (length - 1) * holes[0]) & (at % holes[0] == 0)
    total += int(np.count_nonzero(inside))
  return total


_COUNTS = {"dot": _dot, "convolution": _convolution}
