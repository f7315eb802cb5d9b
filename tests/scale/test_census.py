"""A census counts loop bodies as often as they run, and only what leaves the chip."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mtm.scale import census, groups, hlo, memory, replicated, traffic
from mtm.scale.census import Body, Collective
from mtm.scale.groups import Span
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from tests.scale.conftest import LAYERS, ROWS, WIDTH


def body(text: str) -> Body:
  return census.census(hlo.parse(text), groups.places_of(jax.devices()))


def test_products_of_all_layers_and_their_gradients(text: str) -> None:
  product = 2 * (ROWS // 8) * WIDTH * WIDTH
  # Forward, forward again, and two gradients; of the first layer's input too, since a loop does.
  assert body(text).flops == LAYERS * 4 * product
  assert body(text).loops_not_counted == 0


def test_each_layer_is_gathered_twice_and_its_gradient_summed_once(text: str) -> None:
  found = [(times, c.kind, c.bytes) for times, c in body(text).communication()]
  kernel = 4 * WIDTH * WIDTH
  gathers = [f for f in found if f[1] == "all-gather"]
  assert gathers == [(LAYERS, "all-gather", kernel)] * 2
  sums = [f for f in found if f[1] in ("all-reduce", "reduce-scatter")]
  assert [(times, size) for times, _, size in sums] == [(LAYERS, kernel)]


def test_a_loop_reads_a_slice_of_what_it_is_handed(text: str) -> None:
  least = 4 * LAYERS * WIDTH * WIDTH * 3  # what is gathered is written, and read by its product
  assert least < body(text).bytes < 12 * least


def test_activations_that_a_loop_keeps_are_told_from_gradients(text: str) -> None:
  kept, gradients = memory.stacked(hlo.parse(text))
  rows = 4 * LAYERS * (ROWS // 8) * WIDTH
  assert kept == rows  # the input of each layer
  assert gradients == 4 * LAYERS * WIDTH * WIDTH // 8


FUSED = """
%update (p0: f32[4,100], p1: f32[1,100], p2: s32[]) -> f32[4,100] {
  %p0 = f32[4,100]{1,0} parameter(0)
  %p1 = f32[1,100]{1,0} parameter(1)
  %p2 = s32[] parameter(2)
  ROOT %d = f32[4,100]{1,0} dynamic-update-slice(%p0, %p1, %p2, %p2)
}

%read (p0: f32[4,100], p1: s32[]) -> f32[1,100] {
  %p0 = f32[4,100]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  ROOT %s = f32[1,100]{1,0} dynamic-slice(%p0, %p1, %p1), dynamic_slice_sizes={1,100}
}

ENTRY %main (a: f32[4,100], i: s32[]) -> f32[4,100] {
  %a = f32[4,100]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %r = f32[1,100]{1,0} fusion(%a, %i), kind=kLoop, calls=%read
  %v = f32[1,100]{1,0:T(8,128)S(1)} copy(%r)
  ROOT %u = f32[4,100]{1,0} fusion(%a, %r, %i), kind=kLoop, calls=%update
}
"""


def test_slices_are_read_and_written_in_place_and_the_chips_own_memory_is_free() -> None:
  program = hlo.parse(FUSED)
  entry = program.computations["main"]
  moved = {i.name: traffic.moved(i, entry, program) for i in entry}
  # A slice and its copy; a copy into the chip's own memory only reads; a slice written from one.
  assert moved == {"a": 0, "i": 0, "r": 804 - 0, "v": 400, "u": 804}


ACROSS = """
ENTRY %main (a: bf16[8,128]) -> bf16[8,128] {
  %a = bf16[8,128]{1,0} parameter(0)
  %t = token[] after-all()
  %s = (bf16[8,128]{1,0}, u32[], token[]) send(%a, %t), channel_id=2, is_host_transfer=true,\
 frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
  ROOT %b = bf16[8,128]{1,0} copy(%a)
}
"""


def test_slices_talk_by_sends() -> None:
  places = [(0, 0), (0, 1), (1, 0), (1, 1)]
  ((times, found),) = census.census(hlo.parse(ACROSS), places).communication()
  assert times == 1 and found[:4] == ("all-reduce", 2048, Span(2, 2, ()), True)


def test_only_large_whole_arrays_are_giants() -> None:
  plan = Plan(mesh(data=1, fsdp=8))
  cut = plan.parameters.sharding(("embed", "mlp"), (2**13, 2**12))
  shape = jax.ShapeDtypeStruct((2**13, 2**12), jnp.float32, sharding=plan.replicated)
  state = {
    "whole": shape,
    "cut": jax.ShapeDtypeStruct((2**13, 2**12), jnp.float32, sharding=cut),
    "small": jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=plan.replicated),
  }
  every = Span(8, 1, ((0, 8),))
  gather = Collective("all-gather", 2**27, every, False, "somewhere")
  layer = Body(3, [], [gather._replace(where="in a loop")], [])
  found = replicated.giants(state, Body(1, [], [gather], [layer]), 8)
  assert sorted((giant.name, giant.why) for giant in found) == [
    ("somewhere", "gathered"), ("whole", "kept"),
  ]  # fmt: skip
  assert not replicated.giants(state, Body(1, [], [gather], []), 1)
