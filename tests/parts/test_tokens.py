"""Slices of the sequence: the numbers of a plain stack; what looks ahead is refused."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm import axes
from mtm.errors import UserError
from mtm.families.llama import llama
from mtm.families.switch_decoder import switch_decoder
from mtm.families.t5 import t5
from mtm.parts.attention import Attention
from mtm.parts.bias import Bias
from mtm.parts.context import Context
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.prefix import Prefix
from mtm.parts.patterns.window import Window
from mtm.parts.positions.alibi import Alibi
from mtm.parts.positions.rotary import Rotary
from mtm.parts.stack import Block, Stack
from mtm.parts.tokens import Sliced, TokenSlicing
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from tests.parts.test_stages import Watched, same

B, L, D, R = 4, 8, 8, 4
CUT = {"stage": 4, "data": 1, "tensor": 2}


class Turned(Alibi):
  """A scheme that turns by the place in the document and adds a bias by the place in the row."""

  def rotate(self, q: jax.Array, k: jax.Array, positions: jax.Array) -> Any:
    return Rotary(parent=None).rotate(q, k, positions)


def stack(
  kind: Any = Stack,
  pattern: Pattern | None = None,
  both: bool = False,
  dropout: float = 0.0,
  **fields: Any,
) -> Stack:
  """Layers with shared key heads, and where `both`, others with a short memory between them."""

  def block(pattern: Pattern, **own: Any) -> Block:
    mixer = Attention(4, 4, pattern=pattern, position=Turned(4), dropout=dropout, **own)
    return Block(mixer, Watched(12), LayerNorm, dropout=dropout)

  period: tuple[Block, ...] = (block(pattern or Causal(), kv_heads=2),)
  if both:
    period += (block(Causal() & Window(3, 0)),)
  return kind(period, R, **fields)


@functools.cache
def inputs() -> tuple[jax.Array, Context]:
  """An input, and documents that end elsewhere than slices do, in rows that differ."""
  draw = np.random.default_rng(0)
  ends = np.array([[3, 7], [5, 8], [1, 6], [8, 8]])
  place = np.arange(L)[None]
  segments = np.where(place < ends[:, :1], 1, np.where(place < ends[:, 1:], 2, 0))
  positions = np.where(segments == 2, place - ends[:, :1], place)
  x, bias = (jnp.asarray(draw.normal(size=s), jnp.float32) for s in ((B, L, D), (B, 1, L, L)))
  return x, Context(
    jnp.asarray(positions, jnp.int32), jnp.asarray(segments, jnp.int32),
    labels={"prefix": jnp.zeros((B, L), jnp.int32)}, bias=Bias(bias),
  )  # fmt: skip


@functools.cache
def parameters(both: bool = False) -> Any:
  draw = np.random.default_rng(1)
  with axes.use(None):
    made = jax.eval_shape(stack(both=both).init, jax.random.key(0), *inputs())["params"]
  one = lambda s: jnp.asarray(draw.normal(size=s.shape, scale=0.3), jnp.float32)  # noqa: E731
  return jax.tree.map(one, nn.meta.unbox(made))


def run(module: Stack, sizes: dict[str, int] | None = None, train: bool = False) -> Any:
  """The output, losses and metrics, and the gradients by parameters, input and bias."""
  x, context = inputs()

  def f(params: Any, x: jax.Array, bias: Bias) -> Any:
    own = dataclasses.replace(context, bias=bias, train=train)
    rngs = {"dropout": jax.random.key(1)} if train else None
    out: Any = module.apply({"params": params}, x, own, rngs=rngs)
    return jnp.sum(jnp.sin(out[0])) + sum(out[1].losses.values()), out

  grad = jax.value_and_grad(f, (0, 1, 2), has_aux=True)
  arrays = parameters(len(module.period) > 1), x, context.bias
  if sizes is None:
    with axes.use(None):
      return jax.device_get(jax.jit(grad)(*arrays))
  return jax.device_get(plan(sizes).jit(grad)(*arrays))


def plan(sizes: dict[str, Any]) -> Plan:
  return Plan(mesh(**sizes))


@functools.cache
def plain(both: bool = False) -> Any:
  return run(stack(both=both))


def test_value_and_every_gradient_are_those_of_a_plain_stack() -> None:
  """Of packed documents, with a bias of all layers and one of each; beside another cut."""
  same(run(stack(Sliced, slices=4, microbatches=2), CUT), plain())


@pytest.mark.slow
@pytest.mark.parametrize(
  "fields, sizes",
  [
    ({"slices": 8}, {"stage": 2, "data": 2, "tensor": 2}),
    ({"slices": 2, "microbatches": 4, "scan": False}, {"stage": 4, "data": 1, "tensor": 2}),
    ({"slices": 2, "remat": jax.checkpoint_policies.nothing_saveable}, None),
  ],
)
def test_layers_of_several_kinds_too(fields: dict[str, Any], sizes: dict[str, int] | None) -> None:
  same(run(stack(Sliced, both=True, **fields), sizes), plain(both=True))


@pytest.mark.slow
def test_dropout_belongs_to_a_slice_and_never_to_the_stages() -> None:
  module = stack(Sliced, dropout=0.3, slices=4, microbatches=2)
  one = run(module, None, train=True)
  same(run(module, CUT, train=True), one)
  assert np.abs(one[0][1][0] - plain()[0][1][0]).max() > 0.1, "nothing was dropped"


def test_the_share_of_waiting() -> None:
  assert stack(Sliced, slices=8).bubble(4) == pytest.approx(3 / 11)
  assert stack(Sliced, slices=8, microbatches=2).bubble(4) == pytest.approx(3 / 19)
  assert "4 stages, 2 microbatches of 8 slices" in TokenSlicing(8, 2).told(4)
  assert "waits 15.8% of its time" in TokenSlicing(8, 2).told(4)


@pytest.mark.parametrize(
  "fields, sizes, message",
  [
    ({"slices": 3}, {"stage": 4}, "slices = 3 does not divide 8 places; 1, 2, 4, 8 do"),
    ({"slices": 0}, {}, "slices = 0: must be at least 1"),
    ({"slices": 2, "rounds": 2}, {}, "has one round, and here are 2"),
    ({"slices": 2, "microbatches": 3}, {"stage": 4}, "microbatches = 3 does not divide 4 rows"),
    ({"slices": 2}, {"stage": 2, "sequence": 2}, "sequence` would both cut"),
    ({"slices": 2, "pattern": Full()}, {"stage": 4}, "see later ones than those of its slice"),
    ({"slices": 2, "pattern": Causal() | Prefix()}, {"stage": 4}, "see later ones"),
  ],
)
def test_what_cannot_be_sliced_is_refused(fields, sizes, message) -> None:
  with pytest.raises(UserError, match=message), axes.use(plan(sizes).activations):
    module = stack(Sliced, **fields)
    jax.eval_shape(lambda p: module.apply({"params": p}, *inputs()), parameters())


def test_a_decoders_stack_is_sliced_and_other_models_are_refused() -> None:
  model = TokenSlicing(4, 2).applied(llama(2, 16, 4, 32, 32)).module
  assert isinstance(model.decoder.stack, Sliced) and model.decoder.stack.slices == 4
  with pytest.raises(UserError, match="cross-attention waits for its whole encoder"):
    TokenSlicing(4).applied(t5(2, 16, 4, 4, 32, 32))
  with pytest.raises(UserError, match="Experts is no Mlp"):
    TokenSlicing(4).applied(switch_decoder(2, 16, 4, 32, 32, 4, step=1))
