"""Bytes of a chip's main memory, by what they hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax

from mtm.scale.hlo import HBM, Instruction, Program
from mtm.training.memory import HOST


def shard_bytes(tree: Any) -> int:
  """Bytes that one device holds of a tree of arrays or shapes with shardings; what rests in the
  host's memory is none of them."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
    if leaf.sharding.memory_kind != HOST
  )


def of_step(analysis: Any, program: Program, state: Any, batch: Any) -> dict[str, int]:
  """A training step's memory by category; the categories add up to `peak`.

  Args:
    analysis: what `executable.memory_analysis()` gives.
    program: the compiled text.
    state, batch: the arguments' shapes with their shardings.

  Returns:
    bytes: `parameters`, `optimizer`, `batch` (with padding of all arguments), `activations` (kept
    from the forward pass of a loop over layers), `gradients` (stacked by its backward pass),
    `temporaries` (all else of a step's life), `program` (the code), `peak`; and `host`, what lies
    in the host's memory, beside them.
  """
  parameters, optimizer = shard_bytes(state.params), shard_bytes(state.opt_state)
  kept, gradients = stacked(program)
  temporary = analysis.temp_size_in_bytes
  kept = min(kept, temporary)
  gradients = min(gradients, temporary - kept)
  host = analysis.host_argument_size_in_bytes + analysis.host_temp_size_in_bytes
  arguments = analysis.argument_size_in_bytes
  fresh = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  return {
    "parameters": parameters,
    "optimizer": optimizer,
    "batch": max(arguments - parameters - optimizer, 0),
    "activations": kept,
    "gradients": gradients,
    "temporaries": temporary - kept - gradients + fresh,
    "program": analysis.generated_code_size_in_bytes,
    "peak": max(arguments, parameters + optimizer)
    + temporary
    + fresh
    + analysis.generated_code_size_in_bytes,
    "host": host,
  }


def of_decoding(analysis: Any, params: Any) -> dict[str, int]:
  """A generation program's memory by category, see `of_step`; caches are temporaries."""
  parameters = shard_bytes(params)
  arguments, code = analysis.argument_size_in_bytes, analysis.generated_code_size_in_bytes
  fresh = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  temporary = analysis.temp_size_in_bytes + fresh
  return {
    "parameters": parameters,
    "batch": max(arguments - parameters, 0),
    "temporaries": temporary,
    "program": code,
    "peak": max(arguments, parameters) + temporary + code,
    "host": analysis.host_argument_size_in_bytes + analysis.host_temp_size_in_bytes,
  }


def stacked(program: Program) -> tuple[int, int]:
  """Bytes that loops over layers leave for later: activations, and gradients."""
  kept = gradients = 0
  seen = set()
  for instruction in _written_in_loops(program):
    shapes = [s for s in instruction.shapes if s.space == HBM]
    size = max((s.bytes for s in shapes), default=0)
    key = (instruction.name, size)
    if key in seen:
      continue
    seen.add(key)
    if "transpose(" in instruction.op_name:
      gradients += size
    elif "jvp(" in instruction.op_name:
      kept += size
  return kept, gradients


def _written_in_loops(program: Program) -> Iterator[Instruction]:
  """Instructions of loop bodies that write a slice of an array in place."""
  bodies = {
    name for c in program.computations.values() for i in c if i.opcode == "while"
    for name in i.called("body")
  }  # fmt: skip
  for body in bodies & program.computations.keys():
    for instruction in program.computations[body]:
      if instruction.opcode == "dynamic-update-slice":
        yield instruction
      elif instruction.opcode == "fusion":
        inner = program.computations.get((instruction.called("calls") or [""])[0])
        if inner is not None and any(i.opcode == "dynamic-update-slice" for i in inner):
          yield instruction
