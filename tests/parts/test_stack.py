"""Stack: scanned equals unscanned, remat changes nothing, no weights are tied in silence."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.attention import Attention
from mtm.parts.context import Context, Slots
from mtm.parts.linear import normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm, RMSNorm
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.window import Window
from mtm.parts.stack import Block, PostNorm, PreNorm, SandwichNorm, Stack
from tests.contracts.discovered import parameters

D, L = 8, 6


def block(**fields: Any) -> Block:
  mixer = Attention(2, 4, pattern=fields.pop("pattern", Causal()), dropout=0.2)
  return Block(mixer=mixer, channel=Mlp(12, dropout=0.2), norm=RMSNorm, dropout=0.2, **fields)


def stack(**fields: Any) -> Stack:
  """A period of two different blocks, three times."""
  return Stack((block(), block(pattern=Causal() & Window(2, 0))), 3, **fields)


def inputs(train: bool = True) -> tuple[jax.Array, Context]:
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, L, D)), jnp.float32)
  return x, Context(jnp.tile(jnp.arange(L)[None], (2, 1)), train=train)


@functools.cache
def plain() -> Any:
  """Parameters, value and gradients of the scanned stack, with dropout on."""
  params = parameters(stack().init, *inputs(train=False))
  return params, value_and_grads(stack(), params)


def value_and_grads(module: Stack, params: Any) -> Any:
  x, context = inputs()

  @jax.jit
  def run(params: Any, x: jax.Array) -> Any:
    def loss(params: Any, x: jax.Array) -> Any:
      y, _ = module.apply(params, x, context, rngs={"dropout": jax.random.key(1)})
      return jnp.sum(jnp.sin(y)), y

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)

  return run(params, x)


def close(a: Any, b: Any) -> None:
  """The same operations, fused otherwise: float32 rounding only."""
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=2e-5), a, b)


def test_unscanned_is_scanned_in_value_and_gradient() -> None:
  params, wanted = plain()
  close(value_and_grads(stack(scan=False), params), wanted)


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize(
  "policy", ["nothing_saveable", "dots_saveable", "dots_with_no_batch_dims_saveable"]
)
def test_remat_is_no_remat_in_value_and_gradient(policy: str, scan: bool) -> None:
  params, wanted = plain()
  remat = getattr(jax.checkpoint_policies, policy)
  close(value_and_grads(stack(scan=scan, remat=remat), params), wanted)


def test_remat_saves_memory() -> None:
  """Sixteen layers under `nothing_saveable` need less than half of the temporaries.

  Of a scan only: in an unrolled loop XLA's CPU backend drops the barriers and undoes it.
  """

  def bytes_with(remat: Any) -> int:
    one = Block(Attention(2, 16, pattern=Causal()), Mlp(128), RMSNorm)
    module = Stack((one,), 16, remat=remat)
    x = jax.ShapeDtypeStruct((4, 64, 32), jnp.float32)
    context = Context(jnp.tile(jnp.arange(64)[None], (4, 1)))
    params = jax.eval_shape(module.init, jax.random.key(0), x, context)

    def loss(params: Any, x: jax.Array) -> jax.Array:
      return jnp.sum(module.apply(params, x, context)[0] ** 2)

    return jax.jit(jax.grad(loss)).lower(params, x).compile().memory_analysis().temp_size_in_bytes

  assert bytes_with(jax.checkpoint_policies.nothing_saveable) < bytes_with(None) / 2


def test_layers_have_parameters_and_dropout_of_their_own() -> None:
  fresh = jax.jit(stack().init)(jax.random.key(0), *inputs(train=False))["params"]
  kernel = fresh["period_0"]["channel"]["wi"]["kernel"].value
  assert kernel.shape == (3, D, 12)
  assert not np.allclose(kernel[0], kernel[1])
  # With equal weights and an input of ones, layers would drop alike if they shared a key.
  one = Stack((Block(Mlp(4), None, functools.partial(_Identity), dropout=0.5),), 4)
  x, context = jnp.ones((1, 64, D)), Context(jnp.arange(64)[None], train=True)
  params = jax.tree.map(
    lambda p: np.full(p.shape, 0.1, np.float32), parameters(one.init, x, context)
  )
  y, _ = one.apply(params, x, context, rngs={"dropout": jax.random.key(0)})
  survived = np.unique(np.round(np.asarray(y), 3)).size
  assert survived > 4, "each of four layers keeps or drops: more than all or nothing"


class _Identity(RMSNorm):
  def __call__(self, x: jax.Array) -> jax.Array:
    return x


@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("fields", [{}, {"scan": False}, {"share": True}], ids=str)
def test_a_cache_changes_nothing(fields: dict[str, bool], prepared: bool) -> None:
  module = stack(**fields)
  x, context = inputs(train=False)
  params = parameters(module.init, x, context)
  whole, _ = jax.jit(module.apply)(params, x, context)
  feed = jax.jit(module.apply)
  weights = {"params": module.prepare(params["params"])} if prepared else params
  cache = module.empty_cache(2, L, 0, jnp.float32)
  for start, end in ((0, 3), (3, 4), (4, 6)):
    slots = Slots(jnp.int32(start), jnp.arange(L)[None])
    part = Context(context.positions[:, start:end], slots=slots)
    y, aux = feed(weights, x[:, start:end], part, cache)
    cache = aux.cache
    close(y, whole[:, start:end])


def test_a_repeated_instance_is_refused() -> None:
  one = block()
  with pytest.raises(UserError, match=r"Stack.period\[1\] is the same Block instance"):
    Stack((one, one), 2)
  mixer = Attention(2, 4)
  twice = [Block(mixer=mixer, channel=Mlp(12), norm=RMSNorm) for _ in range(2)]
  with pytest.raises(UserError, match=r"period\[1\].mixer is the same Attention instance"):
    Stack(tuple(twice), 2)


def test_share_ties_all_repetitions() -> None:
  shared = stack(share=True)
  x, context = inputs(train=False)
  params = parameters(shared.init, x, context)
  assert params["params"]["period_0"]["channel"]["wi"]["kernel"].shape == (D, 12)
  tiled = jax.tree.map(lambda p: np.broadcast_to(p, (3, *p.shape)), params)
  close(shared.apply(params, x, context)[0], stack().apply(tiled, x, context)[0])


def test_share_allows_one_instance_twice_in_the_period() -> None:
  one = block()
  shared = Stack((one, one), 1, share=True)
  x, context = inputs(train=False)
  params = parameters(shared.init, x, context)
  assert list(params["params"]) == ["period_0"]
  twice = Stack((block(),), 2, share=True)
  close(shared.apply(params, x, context)[0], twice.apply(params, x, context)[0])


def test_axes_gain_layers_in_front() -> None:
  boxed = jax.eval_shape(stack().init, jax.random.key(0), *inputs(train=False))["params"]
  assert boxed["period_1"]["mixer"]["out"]["kernel"].names == (
    "layers", "heads", "head_dim", "embed",
  )  # fmt: skip


@pytest.mark.parametrize("placement", [PreNorm(), PostNorm(), SandwichNorm()])
def test_placement_is_its_formula(placement: Any) -> None:
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, D)), jnp.float32)
  one = Block(Mlp(12), None, LayerNorm, placement=placement)
  context = Context(jnp.tile(jnp.arange(3)[None], (2, 1)))
  params = parameters(one.init, x, context)
  norm = functools.partial(_layer_norm, params["params"]["mixer_norm"])
  mlp = functools.partial(_mlp, params["params"]["mixer"])
  wanted = {
    PreNorm(): lambda: x + mlp(norm(x)),
    PostNorm(): lambda: norm(x + mlp(x)),
    SandwichNorm(): lambda: x + _layer_norm(params["params"]["mixer_out_norm"], mlp(norm(x))),
  }[placement]()
  np.testing.assert_allclose(one.apply(params, x, context)[0], wanted, rtol=1e-5, atol=1e-5)


def _layer_norm(p: Any, x: Any) -> Any:
  x = np.asarray(x, np.float64)
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
  return x * p["scale"] + p["bias"]


def _mlp(p: Any, x: Any) -> Any:
  h = np.asarray(x, np.float64) @ p["wi"]["kernel"]
  h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))  # gelu, tanh form
  return h @ p["wo"]["kernel"]


def test_normal_initialiser_has_its_deviation() -> None:
  draws = normal(0.02)(jax.random.key(0), (100, 100))
  assert abs(float(jnp.std(draws)) - 0.02) < 0.001
