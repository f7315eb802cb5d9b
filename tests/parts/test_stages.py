"""Pipelines: the numbers of a plain stack, whatever the stages; the waiting is what is said."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm import axes
from mtm.errors import UserError
from mtm.parts.attention import Attention, CrossAttention
from mtm.parts.bias import Bias
from mtm.parts.context import Aux, Context, Source
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns.causal import Causal
from mtm.parts.stack import Block, Stack
from mtm.parts.stages import Pipeline, Schedule, piped
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan

FULL = jax.checkpoint_policies.nothing_saveable
B, L, D, R = 8, 6, 8, 4


class Watched(Mlp):
  """A channel mixer with an auxiliary loss and a metric that are means over tokens."""

  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    y_BLD, _ = super().__call__(x_BLD, context)
    return y_BLD, Aux(None, {"size": jnp.mean(y_BLD**2)}, {"mean": jnp.mean(x_BLD)})


def stack(kind: Any = Stack, dropout: float = 0.0, cross: bool = True, **fields: Any) -> Stack:
  block = functools.partial(Block, norm=LayerNorm, dropout=dropout)
  attention = Attention(2, 4, pattern=Causal(), kernel="reference")
  source = CrossAttention(2, 4, kernel="reference") if cross else None
  period = (block(attention, Watched(12), cross=source),)
  return kind(period, R, **fields)


def inputs(train: bool = False, rows: int = B) -> tuple[jax.Array, Context]:
  """Everything that a context may hold outside decoding, different in each row."""
  draw = np.random.default_rng(0)
  x, source = (jnp.asarray(draw.normal(size=(rows, L, D)), jnp.float32) for _ in range(2))
  segments = jnp.asarray(draw.integers(0, 3, (rows, L)), jnp.int32)
  bias = Bias(jnp.asarray(draw.normal(size=(rows, 1, L, L)), jnp.float32))
  positions = jnp.tile(jnp.arange(L, dtype=jnp.int32)[None], (rows, 1))
  return x, Context(
    positions,
    segments,
    bias=bias,
    source=Source(source, jnp.ones((rows, L), jnp.int32)),
    train=train,
  )


def shapes(module: Stack) -> Any:
  return nn.meta.unbox(jax.eval_shape(module.init, jax.random.key(0), *inputs())["params"])


@functools.cache
def parameters(cross: bool = True) -> Any:
  draw = np.random.default_rng(1)
  one = lambda s: jnp.asarray(draw.normal(size=s.shape, scale=0.3), jnp.float32)  # noqa: E731
  return jax.tree.map(one, shapes(stack(cross=cross)))


def run(module: Stack, sizes: dict[str, int] | None = None, train: bool = False) -> Any:
  """The output, losses and metrics, and the gradients by parameters, input and context."""
  x, context = inputs(train)

  def f(params: Any, x: jax.Array, bias: Any, source: jax.Array) -> Any:
    own = Context(
      context.positions, context.segments, bias=Bias(bias), train=train,
      source=Source(source, context.source.segments),
    )  # fmt: skip
    rngs = {"dropout": jax.random.key(1)} if train else None
    y, aux = module.apply({"params": params}, x, own, rngs=rngs)
    return jnp.sum(jnp.sin(y)) + sum(aux.losses.values()), (y, aux)

  both = jax.value_and_grad(f, (0, 1, 2, 3), has_aux=True)
  arrays = parameters(module.period[0].cross is not None), x, context.bias.array, context.source.x
  if sizes is None:
    with axes.use(None):
      return jax.device_get(jax.jit(both)(*arrays))
  return jax.device_get(Plan(mesh(**sizes)).jit(both)(*arrays))


def same(got: Any, want: Any) -> None:
  """Float32 sums of the same terms in another order, array by array."""
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b) + 1e-6


@functools.cache
def plain() -> Any:
  return run(stack())


def test_parameters_are_those_of_a_stack() -> None:
  assert shapes(stack(Pipeline, microbatches=4)) == shapes(stack())


def test_a_pipeline_beside_other_cuts_is_a_plain_stack_on_one_device() -> None:
  """Value, losses, metrics and all gradients, those of bias and encoder states included."""
  same(run(stack(Pipeline, microbatches=4), {"stage": 2, "data": 2, "tensor": 2}), plain())


@pytest.mark.slow
def test_a_stage_for_each_layer_is_a_plain_stack_too() -> None:
  same(run(stack(Pipeline, microbatches=8), {"stage": 4, "data": 1, "tensor": 2}), plain())


def test_rounds_recomputation_and_stages_change_nothing_not_even_dropout() -> None:
  """Dropout belongs to a layer and a microbatch, never to the stage or the round."""
  module = stack(Pipeline, dropout=0.3, cross=False, microbatches=4)
  one = run(module, None, train=True)
  cut = stack(Pipeline, dropout=0.3, cross=False, microbatches=4, rounds=2, remat=FULL)
  same(run(cut, {"stage": 2, "data": 2, "tensor": 2}, train=True), one)
  with axes.use(None):
    off, _ = jax.jit(lambda p: module.apply({"params": p}, *inputs()))(parameters(False))
  assert np.abs(off - one[0][1][0]).max() > 0.1, "nothing was dropped"


def test_stages_hand_on_to_their_neighbours_and_nothing_else_is_sent() -> None:
  module = stack(Pipeline, microbatches=4)
  plan = Plan(mesh(stage=4, data=1, devices=jax.devices()[:4]))
  x, context = inputs()
  cut = jax.tree.map(
    lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=plan.parameters.sharding(
      ("layers",) + (None,) * (p.ndim - 1), p.shape)), parameters(),
  )  # fmt: skip
  text = plan.jit(lambda p: module.apply({"params": p}, x, context)[0]).lower(cut).compile()
  text = text.as_text()
  assert "collective-permute(" in text
  assert "all-gather(" not in text, "weights left their stage"


def test_the_share_of_waiting() -> None:
  assert stack(Pipeline, microbatches=8).bubble(4) == pytest.approx(3 / 11)
  assert stack(Pipeline, microbatches=8, rounds=2).bubble(4) == pytest.approx(3 / 19)
  assert stack(Pipeline, microbatches=8).bubble(1) == 0


@pytest.mark.parametrize(
  "fields, sizes, message",
  [
    ({"microbatches": 3}, {"stage": 2}, "microbatches = 3 does not divide 8 rows"),
    ({"microbatches": 2, "rounds": 3}, {"stage": 2}, "2 stages in 3 rounds do not divide the 4"),
    ({"microbatches": 1, "rounds": 2}, {"stage": 2}, "1 are fewer than 2 stages"),
    ({"microbatches": 0}, {}, "Pipeline.microbatches = 0: must be at least 1"),
    ({"share": True}, {}, "share their weights cannot be spread"),
  ],
)
def test_what_does_not_fit_is_refused(fields, sizes, message) -> None:
  with pytest.raises(UserError, match=message), axes.use(Plan(mesh(**sizes)).activations):
    stack(Pipeline, **fields).apply({"params": parameters()}, *inputs())


def test_a_models_stacks_become_pipelines_and_a_part_without_any_is_refused() -> None:
  from mtm.families.t5 import t5

  model = Schedule(2).applied(t5(2, 16, 4, 4, 32, 32)).module
  assert isinstance(model.encoder.stack, Pipeline) and model.decoder.stack.microbatches == 2
  assert "waits 20.0% of its time" in Schedule(4).told(stages=2)
  with pytest.raises(UserError, match="Mlp has no Stack"):
    piped(Mlp(3), 2)
