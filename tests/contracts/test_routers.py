"""Routers: finite at balance and at collapse, blind to padding, and their pairs well formed."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mtm.parts.experts.routers
from mtm.parts.experts.routers import Router, Routing, Tokens
from tests.contracts.discovered import examples

N, REAL, D, E = 12, 9, 8, 4
ROUTERS = examples(mtm.parts.experts.routers.__name__, quick=1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, D)).astype(np.float32)
GARBAGE = np.where((np.arange(N) < REAL)[:, None], X, 50 * RNG.normal(size=(N, D))).astype("f4")
IDS, DOMAINS = RNG.integers(0, 6, N), RNG.integers(0, E, N)
# Groups that are routed at once. At balance a router's parameters are all 0; at collapse only the
# first expert is wanted, by far; in the last group nothing is real.
CASES = ("some", "garbage", "balance", "collapse", "padding")


@pytest.fixture(autouse=True)
def strict_arithmetic() -> Iterator[None]:
  """As everywhere in parts: no silent broadcast over a new axis, no silent dtype."""
  with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
    yield


def weights_of(router: Router, case: str) -> dict[str, np.ndarray]:
  """Parameters under which `case` comes about."""
  rng = np.random.default_rng(1)
  out = {}
  for name, spec in router.parameters(D, E).items():
    values = rng.normal(size=spec.shape)
    if case == "balance":
      values = np.zeros(spec.shape)
    if case == "collapse":
      values = np.where(np.indices(spec.shape).sum(0) == 0, 1e4, 0.0)
    out[name] = values.astype(np.float32)
  return out


def vectors_of(case: str) -> np.ndarray:
  """`[tokens, embed]`."""
  if case == "collapse":  # whatever the rest, all have the feature that the first expert is after
    return np.concatenate([np.ones((N, 1), np.float32), X[:, 1:]], axis=1)
  return GARBAGE if case == "garbage" else X


def tokens_of(case: str, length: int = N) -> Tokens:
  """With padding behind, but for balance and collapse, where all are real."""
  real = {"padding": 0, "balance": N, "collapse": N}.get(case, REAL)
  ids, domains = (np.array(values[:length], np.int32) for values in (IDS, DOMAINS))
  if case == "garbage":
    ids[REAL:], domains[REAL:] = 77, 99
  return Tokens(
    jnp.arange(length) < real, {"ids": jnp.asarray(ids), "domain": jnp.asarray(domains)}
  )


@functools.cache
def routed(router: Router, dtype: str, noisy: bool) -> tuple[dict[str, Routing], Any]:
  """The routings of all cases, and the gradients of all that they hold by vectors and weights."""

  def total(x: jax.Array, weights: Any, tokens: Tokens) -> tuple[jax.Array, Routing]:
    key = jax.random.key(7, impl="unsafe_rbg") if noisy else None
    routing = router(x, weights, tokens, E, key)
    return jnp.sum(routing.weight) + sum(routing.losses.values(), jnp.float32(0)), routing

  stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)  # noqa: E731
  x = jnp.asarray(np.stack([vectors_of(case) for case in CASES]), dtype)
  weights = stack([weights_of(router, case) for case in CASES])
  tokens = stack([tokens_of(case) for case in CASES])
  both = jax.jit(jax.vmap(jax.value_and_grad(total, (0, 1), has_aux=True)))
  (_, routing), gradients = both(x, weights, tokens)
  of = lambda index: jax.tree.map(lambda leaf: np.asarray(leaf[index]), routing)  # noqa: E731
  return {case: of(index) for index, case in enumerate(CASES)}, gradients


def pairs(routing: Routing) -> dict[tuple[int, int], float]:
  """(token, expert) → weight, of the pairs that there are."""
  found = [
    ((int(token), int(expert)), float(weight))
    for token, expert, weight in zip(routing.token, routing.expert, routing.weight, strict=True)
    if expert < E
  ]
  assert len(found) == len(dict(found)), "a pair stands twice"
  return dict(found)


def said(routing: Routing) -> dict[str, np.ndarray]:
  """Losses and metrics."""
  assert not set(routing.losses) & {f"{name}_" for name in routing.metrics}
  return {**{f"loss {name}": loss for name, loss in routing.losses.items()}, **routing.metrics}


HOW = [("float32", False), ("bfloat16", True)]


@pytest.mark.parametrize(("dtype", "noisy"), HOW)
@pytest.mark.parametrize("router", ROUTERS)
def test_all_is_finite_at_balance_and_at_collapse(router: Router, dtype: str, noisy: bool) -> None:
  routings, gradients = routed(router, dtype, noisy)
  for leaf in jax.tree.leaves((list(routings.values()), gradients)):
    assert np.isfinite(np.asarray(leaf, np.float32)).all()


@pytest.mark.parametrize(("dtype", "noisy"), HOW)
@pytest.mark.parametrize("router", ROUTERS)
def test_pairs_are_well_formed_and_in_float32(router: Router, dtype: str, noisy: bool) -> None:
  for case, routing in routed(router, dtype, noisy)[0].items():
    assert routing.token.dtype == routing.expert.dtype == np.int32
    assert ((routing.token >= 0) & (routing.token < N)).all()
    assert ((routing.expert >= 0) & (routing.expert <= E)).all()
    assert (routing.weight[routing.expert == E] == 0).all()
    assert ((routing.weight >= 0) & (routing.weight <= 1 + 1e-6)).all()
    for value in [routing.weight, *said(routing).values()]:
      assert value.dtype == np.float32
    assert all(np.ndim(value) == 0 for value in said(routing).values())
    if routing.choices is not None:
      np.testing.assert_array_equal(routing.token, np.tile(np.arange(N), routing.choices))
    real = np.asarray(tokens_of(case).real)
    assert all(real[token] for token, _ in pairs(routing)), "padding goes to an expert"
    assert bool(pairs(routing)) == real.any()


@pytest.mark.parametrize(("dtype", "noisy"), HOW)
@pytest.mark.parametrize("router", ROUTERS)
def test_what_padding_holds_changes_nothing(router: Router, dtype: str, noisy: bool) -> None:
  routings, _ = routed(router, dtype, noisy)
  assert pairs(routings["some"]) == pairs(routings["garbage"])
  for name, value in said(routings["some"]).items():
    np.testing.assert_array_equal(value, said(routings["garbage"])[name])


@pytest.mark.parametrize("router", ROUTERS)
def test_a_group_without_its_padding_goes_the_same_way(router: Router) -> None:
  padded = routed(router, "float32", False)[0]["some"]
  route = jax.jit(lambda x, weights, tokens: router(x, weights, tokens, E, None))
  alone = route(X[:REAL], weights_of(router, "some"), tokens_of("some", REAL))
  ours, theirs = pairs(padded), pairs(alone)
  assert ours.keys() == theirs.keys()
  # Sums over another number of tokens, in another order.
  for pair, weight in ours.items():
    np.testing.assert_allclose(theirs[pair], weight, rtol=1e-5)
  for name, value in said(padded).items():
    np.testing.assert_allclose(said(alone)[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("router", ROUTERS)
def test_parameters_have_a_name_for_each_axis(router: Router) -> None:
  for spec in router.parameters(D, E).values():
    assert len(spec.shape) == len(spec.axes)
    assert "expert" not in spec.axes, "routers are whole on each device"
    assert spec.init(jax.random.key(0), spec.shape, jnp.float32).shape == spec.shape
