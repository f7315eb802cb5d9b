"""Experts compiled for TPUs that are not here: rows go to their experts by all-to-all.

Needs `libtpu`, see `test_tpu.py`; `make tpu` runs it.
"""

from __future__ import annotations

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh

from mtm import axes
from mtm import compile as verb
from mtm.parts.context import Context
from mtm.parts.experts.dispatch.capacity import Capacity
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers.switch import Switch
from mtm.sharding.plan import Plan
from tests.e2e import topology

pytestmark = pytest.mark.tpu
EXPERTS, EMBED, HIDDEN, ROWS, LENGTH = 16, 512, 2048, 16, 1024


@pytest.fixture(scope="module")
def chips() -> Mesh:
  """Sixteen chips of a v5e: two groups of eight that share the experts."""
  return topology.v5e("4x4", data=2, expert=8)


def program(chips: Mesh, engine: str, dispatch: Any) -> Any:
  """A layer of experts forward and backward, compiled."""
  plan = Plan(chips)
  layout = plan.activations
  module = Experts(EXPERTS, Switch(), ExpertMlp(HIDDEN), dispatch, dispatch, engine)
  shape = (ROWS, LENGTH, EMBED)
  x = jax.ShapeDtypeStruct(
    shape, jnp.bfloat16, sharding=layout.sharding(("batch", "length", "embed"), shape)
  )
  positions = jnp.zeros(shape[:2], jnp.int32)
  context = Context(positions, train=True)
  with axes.use(None):
    boxed = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape, jnp.bfloat16), context)
  names = jax.tree.map(
    lambda box: tuple(box.names), boxed, is_leaf=lambda b: isinstance(b, nn.meta.AxisMetadata)
  )
  shapes = nn.meta.unbox(boxed)
  where = plan.of_params(names, shapes)
  params = jax.tree.map(
    lambda s, w: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=w), shapes, where
  )

  def step(params: Any, x: Any) -> Any:
    def loss(params: Any, x: Any) -> jax.Array:
      y, aux = module.apply(params, x, context, rngs={"dropout": jax.random.key(0)})
      return jnp.sum(jnp.square(y.astype(jnp.float32))) + sum(aux.losses.values())

    return jax.grad(loss, (0, 1))(params, x)

  with axes.use(layout):
    return jax.jit(step).lower(params, x).compile()


def collectives(program: str, kind: str) -> list[str]:
  """The shapes that collectives of this kind give."""
  return re.findall(rf"= \(?(\S+?)[ {{].* {kind}(?:-start)?\(", program)


def elements(shape: str) -> int:
  sizes = re.findall(r"\[([\d,]*)\]", shape)
  total = 1
  for size in filter(None, sizes[0].split(",")):
    total *= int(size)
  return total


@pytest.mark.parametrize("engine", ["einsum", "gather", "auto"])
def test_rows_travel_by_all_to_all_and_nobody_gathers_them(chips: Mesh, engine: str) -> None:
  compiled = program(chips, engine, Capacity(1.25)).as_text()
  # There and back, forward and backward.
  assert len(collectives(compiled, "all-to-all")) >= 4
  rows = ROWS * LENGTH * EMBED  # of the whole batch
  gathered = [s for s in collectives(compiled, "all-gather") if elements(s) >= rows // 4]
  assert not gathered, "a device holds rows that are not its own"
  kernel = EXPERTS * EMBED * HIDDEN
  assert not [s for s in collectives(compiled, "all-gather") if elements(s) >= kernel]


def test_a_dropless_layer_compiles_on_a_cut_mesh(chips: Mesh) -> None:
  compiled = program(chips, "auto", Dropless())
  assert compiled.memory_analysis().temp_size_in_bytes > 0


def test_no_chip_sums_or_gathers_the_batch_in_a_stack_of_experts(chips: Mesh, tmp_path) -> None:
  rows, length, embed = 32, 256, 128
  text = tmp_path / "program.txt"
  files = ["runs/pretrain", "families/mixtral/tiny", "optim/adamw", "mesh/fsdp_expert"]
  macros = {
    "BATCH_SIZE": rows, "TASK_FEATURE_LENGTHS": {"targets": length}, "EXPERT_PARALLELISM": 8,
    "mixtral.mixtral.experts": 16, "mixtral.mixtral.capacity": 1.25,
    "mixtral.mixtral.embed": embed, "mixtral.mixtral.vocab": 512,
  }  # fmt: skip
  flags = [f"--gin_file={file}.gin" for file in files]
  flags += [f"--gin.{name}={value}" for name, value in macros.items()]
  where = ["--topology=v5e:4x4", "--quick", f"--text={text}"]
  assert verb.main([*flags, *where]) == 0
  found = [
    elements(shape) for kind in ("all-reduce", "all-gather")
    for shape in collectives(text.read_text(), kind)
  ]  # fmt: skip
  assert found and max(found) < rows * length * embed, "hidden states of the whole batch"
