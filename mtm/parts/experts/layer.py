"""Experts: the channel mixer in which a few of many feed-forward nets work on each token."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.axes import constrain
from mtm.errors import UserError
from mtm.parts.context import Aux, Context
from mtm.parts.experts.dispatch import Dispatch, Plan
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.engines import Engine, Work, perform
from mtm.parts.experts.mlp import Expert
from mtm.parts.experts.routers import Router, Routing, Tokens
from mtm.parts.linear import Parameters, Spec, each


class Experts(nn.Module):
  """A router, a dispatch and an engine over a bank of experts; stands where `Mlp` stands.

  Aux losses are the router's. Metrics, all of them float32: `load` `[experts]`, the share of routed
  pairs that wanted each expert; `load_entropy`, its entropy over the largest possible, 1 when even;
  `dropped`, the share of pairs without a place; `dead`, the share of experts that nobody wanted;
  `output_norm` `[experts]`, the root mean square of what each expert says of a row (times √embed);
  and what the router tells.

  Attributes:
    experts: how many there are.
    router: who goes where.
    expert: what each computes.
    dispatch: who finds a place in training.
    evaluation: the same outside training. The default drops nobody, so that what an example gets
      does not depend on its neighbours.
    engine: how it is done; "auto": the cheapest way.
    group: tokens that share places; None: those of a row. Must divide batch · length.
  """

  experts: int
  router: Router
  expert: Expert
  dispatch: Dispatch
  evaluation: Dispatch = Dropless()
  engine: Engine | str = "auto"
  group: int | None = None

  @property
  def causal(self) -> bool:
    """Whether where a token goes is decided without those after it; a decoder asks."""
    return getattr(self.router, "causal", True)

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape."""
    batch, length, embed = x_BLD.shape
    grouped = self._groups(batch, length)
    x_GND = constrain(x_BLD.reshape(*grouped, embed), "batch", None, "embed")
    router = Parameters(self.router.parameters(embed, self.experts), name="router")()
    weights = Parameters(bank(self.expert.parameters(embed), self.experts), name="expert")()
    weights = jax.tree.map(lambda w: w.astype(x_BLD.dtype), weights)

    tokens = _tokens(context, (batch, length), grouped)
    noise, drop = self._keys(context.train)
    dispatch = self.dispatch if context.train else self.evaluation

    def route(x_ND: jax.Array, of: Tokens, key: jax.Array | None) -> tuple[Routing, Plan]:
      routing = self.router(x_ND, router, of, self.experts, key)
      return routing, dispatch(routing, self.experts, grouped[1])

    keys = None if noise is None else jax.random.split(noise, grouped[0])
    in_axes = (0, 0, None if keys is None else 0)
    routing, plan = jax.vmap(route, in_axes)(x_GND, tokens, keys)
    work = Work(x_GND, plan, self.expert, weights, drop)
    y_GND, squares_E = perform(work, self.engine)
    losses = jax.tree.map(jnp.mean, dict(routing.losses))
    metrics = jax.lax.stop_gradient(_metrics(routing, plan, squares_E))
    return y_GND.reshape(x_BLD.shape), Aux(None, losses, metrics)

  def _groups(self, batch: int, length: int) -> tuple[int, int]:
    """Groups and the tokens of one."""
    size = self.group or length
    if (batch * length) % size:
      raise UserError(
        f"group = {size} tokens share the places of an expert, which does not divide the"
        f" {batch} · {length} tokens of a batch: choose a divisor, or None for one row"
      )
    return batch * length // size, size

  def _keys(self, train: bool) -> tuple[jax.Array | None, jax.Array | None]:
    """Keys for the router's noise and the experts' dropout; none where nothing is random."""
    if not train or not self.has_rng("dropout"):
      return None, None
    noise, drop = jax.random.split(self.make_rng("dropout"))
    return noise, drop


def bank(specs: Any, experts: int) -> Any:
  """One expert's `Spec`s for all of them, with a leading axis `expert`."""

  def many(spec: Spec) -> Spec:
    return Spec(each(spec.init), (experts, *spec.shape), ("expert", *spec.axes))

  return jax.tree.map(many, dict(specs), is_leaf=lambda spec: isinstance(spec, Spec))


def _tokens(context: Context, shape: tuple[int, int], grouped: tuple[int, int]) -> Tokens:
  """What is known of the tokens, in groups."""
  segments = context.segments
  real = jnp.ones(shape, bool) if segments is None else segments > 0
  facts = {name: jnp.broadcast_to(fact, shape) for name, fact in context.facts.items()}
  return jax.tree.map(lambda fact: fact.reshape(grouped), Tokens(real, facts))


def _metrics(routing: Routing, plan: Plan, squares_E: jax.Array) -> dict[str, jax.Array]:
  """See `Experts`."""
  experts = plan.experts
  wanted_E = _count(routing.expert, experts)
  worked_E = _count(plan.expert, experts)
  load_E = wanted_E / jnp.maximum(jnp.sum(wanted_E), 1.0)
  entropy = jnp.sum(jax.scipy.special.entr(load_E)) / jnp.log(jnp.float32(max(experts, 2)))
  return {
    "load": load_E,
    "load_entropy": entropy,
    "dropped": jnp.sum(plan.dropped) / jnp.maximum(jnp.sum(wanted_E), 1.0),
    "dead": jnp.mean((wanted_E == 0).astype(jnp.float32)),
    "output_norm": jnp.sqrt(squares_E / jnp.maximum(worked_E, 1.0)),
    **{name: jnp.mean(value) for name, value in routing.metrics.items()},
  }


def _count(expert: jax.Array, experts: int) -> jax.Array:
  """`[experts]` float32: how many pairs each has."""
  flat = expert.reshape(-1)
  return jnp.zeros((experts,), jnp.float32).at[flat].add(1.0, mode="drop")
