"""Every expert engine equals the reference, in value and gradient, wherever the pairs go."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm import axes
from mtm.discovery import modules
from mtm.parts.experts.dispatch import Dispatch
from mtm.parts.experts.dispatch.capacity import Capacity
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.engines import Engine, Work, perform
from mtm.parts.experts.engines._base import _named
from mtm.parts.experts.engines.einsum import Einsum
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers import Routing
from tests.contracts.discovered import examples

ENGINES = examples("mtm.parts.experts.engines")
# Of each engine the example that has most to do for so few tokens.
HARDEST = [
  pytest.param(module.EXAMPLES[-1], id=module.__name__.rsplit(".", 1)[1])
  for module in modules("mtm.parts.experts.engines")
  if module.EXAMPLES[0] != Einsum()
]
EXPERT = ExpertMlp(5, gated=True, bias=True)
G, N, E, D, K = 2, 6, 3, 4, 2
FEW = Capacity(0.5, minimum=1)


@pytest.fixture(autouse=True)
def strict_arithmetic() -> Iterator[None]:
  with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"), axes.use(None):
    yield


def choice(case: str, tokens: int = N) -> np.ndarray:
  """`[groups, choices, tokens]`: the experts that tokens choose, E for none."""
  expert = np.random.default_rng(0).permuted(np.tile(np.arange(E), (G, tokens, 1)), axis=2)
  expert = np.swapaxes(expert[:, :, :K], 1, 2)
  if case == "one":  # second choices too few to matter
    expert[:, 1] = E
  if case == "padded":
    expert[:, :, tokens - 2 :] = E
    expert[1, :, 1:] = E
  if case == "nobody":
    expert[:] = E
  if case == "all to one":
    expert[:, 0], expert[:, 1] = 1, E
  return expert


def routing(case: str, choices: int | None = K, tokens: int = N) -> Routing:
  """Of all groups. Where experts choose, a token can have none or all of them, in no order."""
  rng = np.random.default_rng(1)
  if choices is None:
    token = np.stack([rng.permuted(np.arange(N))[:4] for _ in range(G * E)]).reshape(G, E * 4)
    expert = np.tile(np.repeat(np.arange(E), 4), (G, 1))
  else:
    expert = choice(case, tokens).reshape(G, K * tokens)
    token = np.tile(np.arange(tokens), (G, K))
  weight = np.where(expert < E, rng.uniform(0.1, 1, expert.shape), 0)
  made = jnp.asarray(token, jnp.int32), jnp.asarray(expert, jnp.int32)
  return Routing(*made, jnp.asarray(weight, jnp.float32), choices=choices)


def arrays(dtype: Any = jnp.float32, tokens: int = N) -> tuple[jax.Array, Any, jax.Array]:
  """Tokens, weights, and what the output is multiplied with."""
  rng = np.random.default_rng(2)

  def draw(*shape: int) -> jax.Array:
    return jnp.asarray(rng.normal(size=shape), dtype)

  weights = {
    name: {key: draw(E, *spec.shape) for key, spec in layer.items()}
    for name, layer in EXPERT.parameters(D).items()
  }
  return draw(G, tokens, D), weights, draw(G, tokens, D)


@functools.cache
def program(engine: Engine, dispatch: Dispatch) -> Any:
  """Value, squares, drop counts and gradients by x, weights and combine weights."""

  @jax.jit
  def run(x: jax.Array, weights: Any, d_y: jax.Array, routing: Routing) -> Any:
    def do(x: jax.Array, weights: Any, weight: jax.Array) -> Any:
      own = Routing(routing.token, routing.expert, weight, choices=routing.choices)
      plan = jax.vmap(lambda one: dispatch(one, E, x.shape[1]))(own)
      y, squares = perform(Work(x, plan, EXPERT, weights), engine)
      return y, (squares, plan.dropped)

    y, pull, said = jax.vjp(do, x, weights, routing.weight, has_aux=True)
    return y, said, pull(d_y)

  return run


def compare(engine: Engine, dispatch: Dispatch, routed: Routing, atol: float, *given: Any) -> None:
  got, want = (program(e, dispatch)(*given, routed) for e in (engine, Einsum()))
  for (path, one), other in zip(
    jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True
  ):
    assert one.dtype == other.dtype
    np.testing.assert_allclose(
      np.float32(one), np.float32(other), atol, atol, err_msg=jax.tree_util.keystr(path)
    )


@pytest.mark.parametrize("case", ["two", "one", "padded", "nobody", "all to one"])
@pytest.mark.parametrize("dispatch", [FEW, Dropless()], ids=["capacity", "dropless"])
@pytest.mark.parametrize("engine", ENGINES)
def test_engine_is_the_reference_where_tokens_choose(
  engine: Engine, dispatch: Dispatch, case: str
) -> None:
  compare(engine, dispatch, routing(case), 2e-5, *arrays())


@pytest.mark.parametrize("engine", HARDEST)
def test_engine_is_the_reference_where_experts_choose(engine: Engine) -> None:
  compare(engine, Dropless(), routing("experts choose", None), 2e-5, *arrays())


@pytest.mark.parametrize("engine", HARDEST)
def test_one_token_will_do(engine: Engine) -> None:
  compare(engine, Dropless(), routing("two", tokens=1), 2e-5, *arrays(tokens=1))


@pytest.mark.parametrize("engine", HARDEST)
def test_bfloat16_stays_near_the_reference(engine: Engine) -> None:
  # Both round each product to 8 bits, and add up to 12 values of size 10 in other orders.
  compare(engine, Dropless(), routing("two"), 0.15, *arrays(jnp.bfloat16))


@pytest.mark.parametrize("engine", HARDEST)
def test_what_an_expert_drops_is_dropped_backwards_too(engine: Engine) -> None:
  x, weights, d_y = arrays()
  plan = jax.vmap(lambda one: Dropless()(one, E, N))(routing("all to one"))
  expert = dataclasses.replace(EXPERT, dropout=0.5)

  @jax.jit
  @jax.value_and_grad
  def run(scale: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.sum(perform(Work(x * scale, plan, expert, weights, key), engine)[0] * d_y)

  step, key = jnp.float32(1e-2), jax.random.key(0)
  after, before = (run(1 + sign * step, key)[0] for sign in (1, -1))
  value, slope = run(jnp.float32(1), key)
  np.testing.assert_allclose(slope, (after - before) / (2 * step), rtol=2e-2)
  assert abs(value - run(jnp.float32(1), jax.random.key(1))[0]) > 0.1


def chosen(experts: int, tokens: int, dispatch: Dispatch, choices: int = 1) -> str:
  routed = Routing(*(jnp.zeros((2, tokens), t) for t in (jnp.int32, jnp.int32, jnp.float32)))
  routed = dataclasses.replace(routed, choices=choices)
  plan = jax.eval_shape(jax.vmap(lambda one: dispatch(one, experts, tokens)), routed)
  x = jax.ShapeDtypeStruct((2, tokens, D), jnp.float32)
  weights = jax.eval_shape(lambda: arrays()[1])
  return type(_named("auto", Work(x, plan, EXPERT, weights))).__name__


@pytest.mark.parametrize("dispatch", [Capacity(), Dropless()], ids=["capacity", "dropless"])
@pytest.mark.parametrize(("experts", "tokens"), [(2, 8), (8, 512), (64, 4096)])
def test_auto_gathers_on_cpu_and_never_multiplies_raggedly(
  experts: int, tokens: int, dispatch: Dispatch
) -> None:
  assert chosen(experts, tokens, dispatch) == "Gather"
