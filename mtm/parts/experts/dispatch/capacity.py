"""Capacity (2006.16668, 2101.03961): an expert has so many places in a group; who comes late is
dropped, and passes by the residual connection alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mtm.errors import UserError
from mtm.parts.experts.dispatch._base import Plan, places
from mtm.parts.experts.routers._base import Routing

Priority = Callable[[Routing], jax.Array | None]


def by_position(routing: Routing) -> None:
  """First choices before second ones, and earlier tokens before later ones."""
  del routing


def by_gate(routing: Routing) -> jax.Array:
  """First choices before second ones, and those that the router is surest of first (batch
  prioritised routing, 2106.05974).

  Returns:
    `[pairs]`, an order of the pairs.

  Raises:
    UserError: it is not tokens that choose here.
  """
  if routing.choices is None:
    raise UserError(
      "priority by gate is for routers whose tokens choose their experts: here experts choose"
      " their tokens and none is dropped; leave priority at by_position"
    )
  first_N = routing.weight.reshape(routing.choices, -1)[0]
  order_N = jnp.argsort(-first_N)
  step = first_N.shape[0] * jnp.arange(routing.choices, dtype=order_N.dtype)
  return (order_N[None, :] + step[:, None]).reshape(-1)


@dataclasses.dataclass(frozen=True)
class Capacity:
  """At most round(factor · tokens / experts) places for each expert in a group.

  Attributes:
    factor: places in all, as a multiple of the group's tokens.
    minimum: the fewest places of an expert.
    size: the places of an expert, whatever `factor` says; None: as said above.
    priority: which pairs come first: `by_position` or `by_gate`.
  """

  factor: float = 1.25
  minimum: int = 4
  size: int | None = None
  priority: Priority = by_position

  def __call__(self, routing: Routing, experts: int, tokens: int) -> Plan:
    places_each = self.size or max(round(self.factor * tokens / experts), self.minimum)
    capacity = min(places_each, routing.token.shape[0])
    order_P = self.priority(routing)
    if order_P is None:
      place_P = places(routing.expert, experts)
    else:
      ordered_P = places(routing.expert[order_P], experts)
      place_P = jnp.zeros_like(ordered_P).at[order_P].set(ordered_P, unique_indices=True)
    wanted_P = routing.expert < experts
    kept_P = wanted_P & (place_P < capacity)
    return Plan(
      token=routing.token,
      expert=jnp.where(kept_P, routing.expert, experts),
      weight=jnp.where(kept_P, routing.weight, 0.0),
      place=place_P,
      dropped=jnp.sum((wanted_P & ~kept_P).astype(jnp.float32)),
      experts=experts,
      capacity=capacity,
      choices=routing.choices,
    )


EXAMPLES = [Capacity(), Capacity(0.5, minimum=1), Capacity(1.0, priority=by_gate), Capacity(size=3)]
