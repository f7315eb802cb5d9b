"""Dispatches: combine∘dispatch is the weighted identity, and who is dropped is told exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mtm.parts.experts.dispatch
from mtm.errors import UserError
from mtm.parts.experts.dispatch import Dispatch, Plan
from mtm.parts.experts.dispatch.capacity import Capacity, by_gate, by_position
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.engines import Work
from mtm.parts.experts.engines.einsum import Einsum
from mtm.parts.experts.routers import Routing, Tokens
from mtm.parts.experts.routers._base import by_choice
from tests.contracts.discovered import examples

N, E, D, K = 16, 4, 3, 2
DISPATCHES = examples(mtm.parts.experts.dispatch.__name__)
# How many of ten tokens want which expert: evenly, with preference, all one.
WISHES = [(0.25, 0.25, 0.25, 0.25), (0.7, 0.2, 0.1, 0.0), (1.0, 0.0, 0.0, 0.0)]


@pytest.fixture(autouse=True)
def strict_arithmetic() -> Iterator[None]:
  """As everywhere in parts: no silent broadcast over a new axis, no silent dtype."""
  with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
    yield


class Echo:
  """An expert that says what it hears."""

  def parameters(self, embed: int) -> Mapping[str, Any]:
    return {}

  def __call__(self, rows: jax.Array, weights: Any, product: Any, key: Any) -> jax.Array:
    return rows


def chosen(wish: tuple[float, ...], seed: int = 0) -> Routing:
  """Tokens that choose, best first, with padding and with second choices that do not hold."""
  rng = np.random.default_rng(seed)
  first = rng.choice(E, N, p=wish)
  second = np.where(rng.random(N) < 0.3, E, (first + 1) % E)
  weight = np.sort(rng.random((N, K)), axis=1)[:, ::-1]
  tokens = Tokens(jnp.asarray(rng.random(N) < 0.8))
  expert = jnp.asarray(np.stack([first, second], axis=1), jnp.int32)
  return by_choice(expert, jnp.asarray(weight, jnp.float32), tokens, E)


def picked() -> Routing:
  """Experts that choose, the last of them one token fewer."""
  rng = np.random.default_rng(1)
  token = np.concatenate([rng.permutation(N)[:5] for _ in range(E)]).astype(np.int32)
  expert = np.repeat(np.arange(E), 5).astype(np.int32)
  expert[-1] = E
  weight = np.where(expert < E, rng.random(5 * E), 0.0).astype(np.float32)
  return Routing(jnp.asarray(token), jnp.asarray(expert), jnp.asarray(weight))


def planned(dispatch: Dispatch, routing: Routing) -> Plan:
  """The plan in numpy."""
  return jax.tree.map(np.asarray, jax.jit(lambda r: dispatch(r, E, N))(routing))


def rank(dispatch: Dispatch, routing: Routing) -> np.ndarray:
  """`[pairs]`: how many pairs are served before each."""
  order = getattr(dispatch, "priority", by_position)(routing)
  return np.argsort(np.arange(len(routing.token)) if order is None else np.asarray(order))


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("dispatch", DISPATCHES)
def test_who_is_dropped_is_told_exactly(dispatch: Dispatch, wish: tuple[float, ...]) -> None:
  routing = jax.tree.map(np.asarray, chosen(wish))
  plan = planned(dispatch, routing)
  kept = plan.expert < E
  wanted = np.bincount(routing.expert, minlength=E + 1)[:E]
  worked = np.bincount(plan.expert, minlength=E + 1)[:E]
  room = plan.capacity or len(routing.token)
  np.testing.assert_array_equal(worked, np.minimum(wanted, room))
  assert plan.dropped == (wanted - worked).sum()
  assert (plan.experts, plan.choices) == (E, K)
  # What is kept is what was asked for, and the rest is nothing.
  np.testing.assert_array_equal(plan.token, routing.token)
  np.testing.assert_array_equal(plan.expert[kept], routing.expert[kept])
  np.testing.assert_array_equal(plan.weight, np.where(kept, routing.weight, 0))
  # No two pairs have one place.
  seats = list(zip(plan.expert[kept], plan.place[kept], strict=True))
  assert len(seats) == len(set(seats))
  assert ((plan.place[kept] >= 0) & (plan.place[kept] < room)).all()


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("dispatch", DISPATCHES)
def test_nobody_is_dropped_before_one_who_comes_later(
  dispatch: Dispatch, wish: tuple[float, ...]
) -> None:
  routing = chosen(wish, seed=2)
  plan, ranks = planned(dispatch, routing), rank(dispatch, routing)
  wanted = np.asarray(routing.expert)
  for expert in range(E):
    kept = ranks[plan.expert == expert]
    lost = ranks[(wanted == expert) & (plan.expert == E)]
    assert not len(lost) or not len(kept) or kept.max() < lost.min()
    places = plan.place[plan.expert == expert]
    np.testing.assert_array_equal(np.argsort(kept), np.argsort(places))


@pytest.mark.parametrize("routing", [chosen(WISHES[1]), picked()], ids=["chosen", "picked"])
@pytest.mark.parametrize("dispatch", DISPATCHES)
def test_there_and_back_is_the_weighted_identity(dispatch: Dispatch, routing: Routing) -> None:
  if routing.choices is None and getattr(dispatch, "priority", None) is by_gate:
    with pytest.raises(UserError, match="experts choose"):
      dispatch(routing, E, N)
    return
  x_ND = np.random.default_rng(3).normal(size=(N, D)).astype(np.float32)
  plan = jax.tree.map(lambda leaf: leaf[None], dispatch(routing, E, N))
  y_GND, squares_E = Einsum()(Work(jnp.asarray(x_ND)[None], plan, Echo(), {}))
  share_N, squared_E = np.zeros(N), np.zeros(E)
  for token, expert, weight in zip(plan.token[0], plan.expert[0], plan.weight[0], strict=True):
    if expert < E:
      share_N[token] += weight
      squared_E[expert] += np.square(x_ND[token]).sum()
  # Sums of float32 products in another order.
  np.testing.assert_allclose(y_GND[0], x_ND * share_N[:, None], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(squares_E, squared_E, rtol=1e-5)


def test_priority_by_gate_serves_the_surest_first_and_first_choices_before_second_ones() -> None:
  weight = jnp.array([[0.5, 0.4], [0.9, 0.1], [0.7, 0.3]])
  routing = by_choice(jnp.array([[0, 1], [0, 1], [0, 1]]), weight, Tokens(jnp.ones(3, bool)), 2)
  plan = planned(Capacity(size=2, priority=by_gate), routing)
  np.testing.assert_array_equal(plan.expert, [E, 0, 0, E, 1, 1])  # token 0 is the least sure
  np.testing.assert_array_equal(plan.place[[1, 2, 4, 5]], [0, 1, 0, 1])
  plan = planned(Capacity(size=2), routing)
  np.testing.assert_array_equal(plan.expert, [0, 0, E, 1, 1, E])


@pytest.mark.parametrize(
  ("dispatch", "capacity"),
  [
    (Capacity(1.25), 5),
    (Capacity(0.1), 4),
    (Capacity(0.1, minimum=1), 1),
    (Capacity(1.1), 4),
    (Capacity(size=7), 7),
    (Capacity(100.0), N * K),
    (Dropless(), None),
  ],
)
def test_places_are_a_rounded_share_of_all_tokens_and_at_least_a_few(
  dispatch: Dispatch, capacity: int | None
) -> None:
  assert dispatch(chosen(WISHES[0]), E, N).capacity == capacity
