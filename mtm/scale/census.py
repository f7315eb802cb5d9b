"""What a compiled program does in a step on each chip: products, memory traffic, collectives.

XLA's own cost analysis counts the body of a loop once; here bodies count as often as they run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mtm.scale import groups, products, traffic
from mtm.scale.groups import Place, Span
from mtm.scale.hlo import Computation, Instruction, Program


class Collective(NamedTuple):
  """A communication of a group of devices.

  Attributes:
    kind: such as `all-gather`; an all-reduce of which each device keeps a slice is `reduce-scatter`
      only where XLA runs it as one.
    bytes: of the whole: what is gathered, or what is reduced or exchanged by each device.
    span: the group.
    overlapped: whether other work may run beside it.
    where: the JAX operation that it came from.
  """

  kind: str
  bytes: int
  span: Span
  overlapped: bool
  where: str = ""


class Work(NamedTuple):
  """What an instruction does: FLOPs of products, bytes of main memory."""

  flops: int
  bytes: int


@dataclasses.dataclass(frozen=True)
class Body:
  """A computation, and how often it runs within the one around it.

  Attributes:
    trips: how often.
    work: of its instructions, those that do any.
    collectives: its communications.
    inner: the computations that it runs.
    open_loops: loops whose number of turns the text does not tell: they count as one turn.
  """

  trips: int
  work: Sequence[Work]
  collectives: Sequence[Collective]
  inner: Sequence[Body]
  open_loops: int = 0

  @property
  def flops(self) -> int:
    """FLOPs of products, of all turns."""
    return self.trips * (sum(w.flops for w in self.work) + sum(b.flops for b in self.inner))

  @property
  def bytes(self) -> int:
    """Bytes to and from main memory, of all turns."""
    return self.trips * (sum(w.bytes for w in self.work) + sum(b.bytes for b in self.inner))

  def communication(self, times: int = 1) -> Iterator[tuple[int, Collective]]:
    """Each collective, and how often it runs."""
    for collective in self.collectives:
      yield times * self.trips, collective
    for body in self.inner:
      yield from body.communication(times * self.trips)

  @property
  def loops_not_counted(self) -> int:
    """Loops in all of it of which one turn was counted for want of their number."""
    return self.open_loops + sum(b.loops_not_counted for b in self.inner)


def census(program: Program, places: Sequence[Place]) -> Body:
  """Walks a program.

  Args:
    program: compiled for several devices; it is what each of them runs.
    places: where they are, by their number in the program.
  """
  return _Walk(program, places).body(program.computations[program.entry], 1)


class _Walk:
  def __init__(self, program: Program, places: Sequence[Place]) -> None:
    self.program, self.places = program, places

  def body(self, computation: Computation, trips: int) -> Body:
    """What a computation does."""
    work, inner, open_loops = [], [], 0
    # An asynchronous one appears in several pieces, under one id and with one size.
    seen: dict[tuple[str, str, int], Collective] = {}
    for instruction in computation:
      if instruction.opcode == "while":
        turns = self.program.trips(instruction)
        open_loops += turns is None
        inner += self._called(instruction, turns or 1, "body")
      elif instruction.opcode in ("conditional", "call"):
        inner += self._called(
          instruction, 1, "branch_computations", "true_computation", "false_computation", "to_apply"
        )
      else:
        for number, found in enumerate(self._collectives(instruction, computation)):
          channel, one = self._named(found, f"{instruction.name}/{number}", instruction)
          if one.span.size > 1:
            seen.setdefault((channel, one.kind, one.bytes), one)
        kind = traffic.across_slices(instruction)
        if kind:  # within a slice it is another collective's part
          slices = len({place[0] for place in self.places})
          size = instruction.shapes[0].bytes
          one = Collective(kind, size, Span(slices, slices, ()), True, instruction.op_name)
          seen[instruction.name, kind, size] = one
        flops = self._flops(instruction, computation)
        moved = traffic.moved(instruction, computation, self.program)
        if flops or moved:
          work.append(Work(flops, moved))
    return Body(trips, work, list(seen.values()), inner, open_loops)

  def _called(self, instruction: Instruction, trips: int, *names: str) -> list[Body]:
    known = self.program.computations
    return [self.body(known[name], trips) for name in instruction.called(*names) if name in known]

  def _flops(self, instruction: Instruction, computation: Computation) -> int:
    total = products.flops(instruction, computation)
    for name in instruction.called("calls"):
      inner = self.program.computations.get(name)
      if inner is not None:
        total += sum(self._flops(i, inner) for i in inner)
    return total

  def _collectives(
    self, instruction: Instruction, computation: Computation
  ) -> Iterator[tuple[Instruction, Computation]]:
    """The collectives that an instruction is, or holds in a fusion."""
    if traffic.is_collective(instruction):
      yield instruction, computation
    for name in instruction.called("calls"):
      inner = self.program.computations.get(name)
      if inner is not None:
        for one in inner:
          yield from self._collectives(one, inner)

  def _named(
    self, found: tuple[Instruction, Computation], name: str, outer: Instruction
  ) -> tuple[str, Collective]:
    """A collective under the name that its pieces share."""
    one, home = found
    kind = one.opcode.removesuffix("-start")
    shapes = one.shapes if one.opcode == kind else one.shapes[len(one.operands) :] or one.shapes
    if kind == "all-reduce" and "all-reduce-scatter" in home.name:
      kind = "reduce-scatter"
    size = sum(shape.bytes for shape in shapes)
    if one.opcode == "reduce-scatter":
      size = sum(i.bytes for name in one.operands if (i := home.get(name)))
    span = groups.span(groups.members(one, len(self.places)), self.places)
    overlapped = one is not outer or one.opcode != kind
    where = one.op_name or outer.op_name
    return one.attribute("channel_id") or name, Collective(kind, size, span, overlapped, where)
