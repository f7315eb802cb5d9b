"""The reversible stack: gradients are those of plain autodiff, memory does not grow with depth."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.attention import Attention, CrossAttention
from mtm.parts.bias import Bias
from mtm.parts.context import Aux, Context, Slots
from mtm.parts.mixers.lsh import LSH, Hashing
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns.causal import Causal
from mtm.parts.reversible import ReversibleStack, Streams
from mtm.parts.stack import Block, Stack
from tests.contracts.discovered import parameters

D, L = 8, 12


class Watched(Mlp):
  """A channel mixer with an auxiliary loss and a metric."""

  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    y_BLD, _ = super().__call__(x_BLD, context)
    x, y = x_BLD.astype(jnp.float32), y_BLD.astype(jnp.float32)
    return y_BLD, Aux(None, {"size": jnp.mean(y**2)}, {"mean": jnp.mean(x)})


def period(dropout: float = 0.0) -> tuple[Block, ...]:
  """Attention with a loss beside it, then attention by hashing."""
  block = functools.partial(Block, norm=LayerNorm, placement=Streams(), dropout=dropout)
  local = Attention(2, 4, pattern=Causal(), dropout=dropout)
  hashed = LSH(2, 4, Hashing(4, 2), 4, pattern=Causal(), dropout=dropout)
  return block(local, Watched(12, dropout=dropout)), block(hashed, Mlp(12, dropout=dropout))


def inputs(train: bool = False, **fields: Any) -> tuple[jax.Array, Context]:
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, L, D)), jnp.float32)
  return x, Context(jnp.tile(jnp.arange(L)[None], (2, 1)), train=train, **fields)


def value_and_grads(module: Stack, params: Any, x: Any, context: Context) -> Any:
  """Of a function of the output, the losses and the metrics, by the parameters and the input."""

  @jax.jit
  def run(params: Any, x: jax.Array) -> Any:
    def loss(params: Any, x: jax.Array) -> Any:
      rngs = {"dropout": jax.random.key(1)} if context.train else None
      y, aux = module.apply(params, x, context, rngs=rngs)
      assert aux.cache is None
      every = (*aux.losses.values(), *(jnp.sum(m) for m in aux.metrics.values()))
      return jnp.sum(jnp.sin(y.astype(jnp.float32))) + sum(every), (y, aux)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)

  return run(params, x)


def close(a: Any, b: Any) -> None:
  """The same sums, recomputed in another order: each within 1e-5 of the largest."""

  def one(x: Any, y: Any) -> None:
    scale = max(float(np.abs(y).max()), 1.0)
    np.testing.assert_allclose(x / scale, y / scale, rtol=0, atol=1e-5)

  jax.tree.map(one, a, b)


@pytest.mark.parametrize("scan", [True, False])
def test_values_and_gradients_are_those_of_a_plain_stack(scan: bool) -> None:
  x, context = inputs()
  module = ReversibleStack(period(), 3, scan=scan)
  params = parameters(module.init, x, context)
  (total, (y, aux)), (grads, by_x) = value_and_grads(module, params, x, context)
  plain, twice = Stack(period(), 3), jnp.concatenate([x, x], axis=-1)
  (wanted, (z, told)), (slow, by_twice) = value_and_grads(plain, params, twice, context)
  np.testing.assert_allclose(total, wanted, rtol=1e-5)
  close((y, aux.losses, aux.metrics), (z, told.losses, told.metrics))
  assert aux.metrics["block_0/channel/mean"].shape == (3,)
  close(grads, slow)
  close(by_x, by_twice[..., :D] + by_twice[..., D:])


def test_dropout_is_the_same_in_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
  """Against autodiff through the same forward pass."""
  x, context = inputs(train=True)
  module = ReversibleStack(period(0.3), 2)
  params = parameters(module.init, x, inputs()[1])
  value, grads = value_and_grads(module, params, x, context)

  class Plain:
    def __init__(self, function: Any) -> None:
      self.function = function

    def __call__(self, *args: Any) -> Any:
      return self.function(*args)

    def defvjp(self, *rules: Any) -> None:
      pass

  off, _ = jax.jit(module.apply)(params, *inputs())
  assert np.abs(value[1][0] - off).max() > 1e-2
  with monkeypatch.context() as patch:
    patch.setattr("mtm.parts.reversible.jax.custom_vjp", Plain)
    wanted, slow = value_and_grads(module, params, x, context)
  close(value, wanted)
  close(grads, slow)


def test_a_bias_of_all_layers_gets_its_gradient() -> None:
  block = functools.partial(Block, channel=Mlp(12), norm=LayerNorm, placement=Streams())
  x, context = inputs()
  reverse = ReversibleStack((block(Attention(2, 4)),), 2)
  params = parameters(reverse.init, x, context)
  plain = Stack((block(Attention(2, 4)),), 2)

  def loss(module: Stack, bias: jax.Array, x: jax.Array) -> jax.Array:
    around = inputs(bias=Bias(bias))[1]
    return jnp.sum(jnp.sin(module.apply(params, x, around)[0]))

  bias = jnp.asarray(np.random.default_rng(1).normal(size=(1, 2, L, L)), jnp.float32)
  ours = jax.jit(jax.grad(lambda bias: loss(reverse, bias, x)))(bias)
  wanted = jax.jit(jax.grad(lambda b: loss(plain, b, jnp.concatenate([x, x], -1))))(bias)
  assert np.abs(wanted).max() > 1e-2
  close(ours, wanted)


def kept(module: Stack, width: int) -> tuple[dict[str, int], Any]:
  """What the backward pass is handed beside the parameters, in bytes; and the step, lowered."""
  x = jax.ShapeDtypeStruct((2, 128, width), jnp.float32)
  context = Context(jnp.tile(jnp.arange(128)[None], (2, 1)))
  params = jax.eval_shape(module.init, jax.random.key(0), x, context)

  def forward(params: Any, x: jax.Array) -> jax.Array:
    return module.apply(params, x, context)[0]

  known = {(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(params)}
  saved = jax.eval_shape(lambda params, x: jax.vjp(forward, params, x)[1], params, x)
  bytes_of = {"numbers": 0, "decisions": 0}
  for leaf in jax.tree.leaves(saved):
    if (leaf.shape, leaf.dtype) not in known:
      name = "numbers" if jnp.issubdtype(leaf.dtype, jnp.inexact) else "decisions"
      bytes_of[name] += leaf.size * leaf.dtype.itemsize
  step = jax.jit(jax.grad(lambda params, x: jnp.sum(forward(params, x) ** 2)))
  return bytes_of, step.lower(params, x)


def test_what_is_kept_does_not_grow_with_depth() -> None:
  """From 2 layers to 8: of numbers nothing, of decisions a byte for each head, round and token of
  a layer that hashes; and what the compiled step needs is more by gradients of parameters only."""
  block = functools.partial(Block, norm=LayerNorm, placement=Streams())

  def blocks() -> tuple[Block, ...]:
    hashed = LSH(2, 8, Hashing(4, 2), 32, pattern=Causal())
    return block(Attention(2, 8, pattern=Causal()), Mlp(32)), block(hashed, Mlp(32))

  (two, step), (eight, long_step) = (kept(ReversibleStack(blocks(), n), 16) for n in (1, 4))
  (plain_two, _), (plain_eight, _) = (kept(Stack(blocks(), n), 32) for n in (1, 4))
  assert two["numbers"] == eight["numbers"] == 2 * (2 * 128 * 16 * 4), "two streams"
  assert plain_eight["numbers"] > 3 * plain_two["numbers"] > 100 * two["numbers"]
  assert eight["decisions"] - two["decisions"] == 3 * (2 * 2 * 2 * 128)
  few, many = (s.compile().memory_analysis().temp_size_in_bytes for s in (step, long_step))
  assert many < 1.2 * few, (few, many)


def test_half_precision_keeps_its_streams_in_float32() -> None:
  x, context = inputs()
  module = ReversibleStack(period(), 3)
  params = parameters(module.init, x, context)
  half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
  (_, (y, _)), (grads, _) = value_and_grads(module, half, x.astype(jnp.bfloat16), context)
  assert y.dtype == jnp.bfloat16
  (_, (z, _)), (wanted, _) = value_and_grads(module, params, x, context)
  assert np.abs(y.astype(jnp.float32) - z).mean() < 0.05 * np.abs(z).mean()
  for name in ("wi", "wo"):
    a, b = (g["params"]["period_0"]["channel"][name]["kernel"] for g in (grads, wanted))
    assert np.corrcoef(np.ravel(a.astype(jnp.float32)), np.ravel(b))[0, 1] > 0.98


def test_a_cache_changes_nothing() -> None:
  block = functools.partial(Block, channel=Mlp(12), norm=LayerNorm, placement=Streams())
  module = ReversibleStack((block(Attention(2, 4, pattern=Causal())),), 2)
  x, context = inputs()
  params = parameters(module.init, x, context)
  whole, _ = jax.jit(module.apply)(params, x, context)
  feed, cache = jax.jit(module.apply), module.empty_cache(2, L, 0, jnp.float32)
  weights = {"params": module.prepare(params["params"])}
  for start, end in ((0, 5), (5, 6), (6, L)):
    slots = Slots(jnp.int32(start), jnp.arange(L)[None])
    part = Context(context.positions[:, start:end], slots=slots)
    y, aux = feed(weights, x[:, start:end], part, cache)
    cache = aux.cache
    np.testing.assert_allclose(y, whole[:, start:end], rtol=1e-5, atol=1e-5)


def test_what_cannot_be_run_backwards_is_refused() -> None:
  block = functools.partial(Block, norm=LayerNorm)
  good = functools.partial(block, Attention(2, 4), Mlp(12), placement=Streams())
  for wrong in (
    block(Attention(2, 4), Mlp(12)),
    block(Attention(2, 4), None, placement=Streams()),
    good(cross=CrossAttention(2, 4)),
  ):
    with pytest.raises(UserError, match=r"period\[0\] cannot be run backwards"):
      ReversibleStack((wrong,), 2)
  for fields in ({"share": True}, {"remat": jax.checkpoint_policies.nothing_saveable}):
    with pytest.raises(UserError, match="recomputes everything and shares nothing"):
      ReversibleStack((good(),), 2, **fields)
