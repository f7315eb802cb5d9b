"""Compiled text is read as it is written, on CPU and on TPU."""

from __future__ import annotations

import pytest

from mtm.scale import hlo
from mtm.scale.hlo import HBM, Shape

TPU = """
%cond (p: (s32[], bf16[4,8])) -> pred[] {
  %p = (s32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %n = s32[]{:T(128)} constant(12)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %n), direction=LT
}

%body (q: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  ROOT %q = (s32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
}

ENTRY %main (a: bf16[4,8]) -> bf16[4,8] {
  %a = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0), metadata={op_name="x"}
  %z = s32[]{:T(128)} constant(0)
  %t = (s32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)S(1)}) tuple(%z, %a)
  %w = (s32[], /*index=1*/bf16[4,8]{1,0:T(8,128)(2,1)S(1)}) while(%t), condition=%cond, body=%body
  ROOT %r = bf16[4,8]{1,0:T(8,128)(2,1)} get-tuple-element(%w), index=1
}
"""


def test_a_tpu_layout_tells_the_memory_and_a_condition_the_trips() -> None:
  program = hlo.parse(TPU)
  entry = program.computations[program.entry]
  loop = entry.instructions["w"]
  assert loop.shapes == (Shape("s32", ()), Shape("bf16", (4, 8), 1))
  assert entry.instructions["a"].shapes[0].space == HBM
  assert loop.called("body", "condition") == ["body", "cond"]
  assert program.trips(loop) == 12
  assert entry.root.name == "r" and entry.instructions["a"].op_name == "x"


def test_loops_of_a_compiled_program_run_as_often_as_there_are_layers(text: str) -> None:
  program = hlo.parse(text)
  loops = [i for c in program.computations.values() for i in c if i.opcode == "while"]
  assert [program.trips(loop) for loop in loops] == [3, 3]


@pytest.mark.parametrize(
  "written, size", [("bf16[3,5]{1,0}", 30), ("s4[3]", 2), ("pred[]", 1), ("f8e4m3fn[2,2]", 4)]
)
def test_bytes_of_a_shape(written: str, size: int) -> None:
  assert hlo.shapes_of(written)[0].bytes == size


def test_text_without_an_entry_is_refused() -> None:
  with pytest.raises(ValueError, match="no compiled program"):
    hlo.parse("HloModule nothing")
