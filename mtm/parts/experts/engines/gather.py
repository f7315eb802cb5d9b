"""The portable engine: rows go to their experts and back by index."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mtm import axes
from mtm.axes import constrain
from mtm.parts.experts.dispatch._base import Plan
from mtm.parts.experts.engines import _over, _rows
from mtm.parts.experts.engines._base import Work, of_every_expert

_CUT = ("batch", "groups", "expert", "capacity", "embed", "mlp")


@dataclasses.dataclass(frozen=True)
class Gather:
  """Two forms, both exact.

  On one device every expert has room for about its share of the rows, all experts' together, and
  what is over is done afterwards in blocks, expert by expert: work grows with the pairs, whatever
  the places of a plan, and no more than twofold when all go to one expert. Over several devices,
  and for places on accelerators, the form is `[experts, groups, places, embed]`: a group of a plan
  without places needs as many as it has tokens.

  Attributes:
    spread: an expert's room is its share s of the rows and so many √s.
    block: rows of a block for what is over; None: about a quarter of a share, 16 to 32. An expert
      whose places are no more than a block, nor than a quarter, above its room has room for all.
  """

  spread: float = 1.0
  block: int | None = None

  def supports(self, work: Work) -> str | None:
    del work
    return None

  def cost(self, work: Work) -> float:
    """Measured in benchmarks/experts.py on CPU."""
    groups, tokens, _ = work.x.shape
    pairs = work.plan.expert.size
    if _in_seats(work.plan):
      return 0.15 + work.plan.experts * groups * (work.plan.capacity or tokens) / pairs
    return 0.15 + work.plan.experts * self._room(work.plan) / pairs

  def __call__(self, work: Work) -> tuple[jax.Array, jax.Array]:
    return _seats(work) if _in_seats(work.plan) else self._by_rows(work)

  def _room(self, plan: Plan) -> int:
    """Rows that each expert has without going over; at most what it can have."""
    groups, pairs = plan.expert.shape
    most = pairs * groups if plan.capacity is None else plan.capacity * groups
    share = min(pairs * groups / plan.experts, most)
    room = 8 * math.ceil((share + self.spread * math.sqrt(share)) / 8)
    return most if most - room <= min(self._block(share), room // 4) else room

  def _block(self, share: float) -> int:
    return self.block or min(max(2 ** round(math.log2(share / 4)), 16), 32)

  def _by_rows(self, work: Work) -> tuple[jax.Array, jax.Array]:
    """See the class: one device."""
    groups, tokens, embed = work.x.shape
    room, experts = self._room(work.plan), work.plan.experts
    plan = _rows.flat(work.plan, tokens)
    x_TD = work.x.reshape(groups * tokens, embed)
    weights, over = work.weights, None
    if room < (plan.expert.shape[0] if plan.capacity is None else plan.capacity):
      block = self._block(plan.expert.shape[0] / experts)
      *over, x_TD, weights = _over.afterwards(
        _over.How(work.expert, block), x_TD, weights, plan.weight,
        _over.over(plan, room, block), work.key,
      )  # fmt: skip

    seated_P = (plan.expert < experts) & (plan.place < room)
    row_P = jnp.where(seated_P, plan.expert * room + plan.place, experts * room)
    at = _rows.where(row_P, plan.token, experts * room, groups * tokens)
    x_ECD = _rows.take(x_TD, plan.token, at, plan.choices).reshape(experts, room, embed)
    y_ECD = work.expert(x_ECD, weights, _of_bank, work.key)
    y_TD = _rows.combine(
      y_ECD.reshape(-1, embed), plan.weight, plan.token, at, groups * tokens, plan.choices
    )
    filled_EC = (at[1] < plan.expert.shape[0]).reshape(experts, room)
    squares_E = _squares(y_ECD, filled_EC)
    if over is not None:
      y_TD, squares_E = y_TD + over[0], squares_E + over[1]
    return y_TD.astype(x_TD.dtype).reshape(work.x.shape), squares_E


def _in_seats(plan: Plan) -> bool:
  """Which of the two forms is taken."""
  several = any(axes.ways(name) > 1 for name in _CUT)
  return several or (plan.capacity is not None and not axes.is_for("cpu"))


def _of_bank(rows_ECI: jax.Array, layer: Mapping[str, jax.Array]) -> jax.Array:
  y_ECO = _rows.bank(rows_ECI, layer["kernel"])
  return y_ECO + layer["bias"][:, None, :] if "bias" in layer else y_ECO


def _squares(y: jax.Array, filled: jax.Array) -> jax.Array:
  """`[experts]` float32: the summed squares of `[experts, ..., embed]` where a row is filled."""
  said = jax.lax.stop_gradient(y).astype(jnp.float32)
  return jnp.sum(jnp.where(filled[..., None], jnp.square(said), 0), axis=range(1, y.ndim))


def _seats(work: Work) -> tuple[jax.Array, jax.Array]:
  """Every expert has a seat for each place in each group; groups and experts may be cut."""
  plan, (groups, tokens, embed) = work.plan, work.x.shape
  experts, capacity = plan.experts, plan.capacity or tokens
  seats = experts * capacity

  def find(expert_P: jax.Array, place_P: jax.Array, token_P: jax.Array) -> _rows.Where:
    row_P = jnp.where(expert_P < experts, expert_P * capacity + place_P, seats)
    return _rows.where(row_P, token_P, seats, tokens)

  at = jax.vmap(find)(plan.expert, plan.place, plan.token)
  wide, narrow = ("batch", None, "embed"), ("batch", None)

  def take(x: jax.Array, token: jax.Array, *at: jax.Array) -> jax.Array:
    return jax.vmap(lambda x, t, a: _rows.take(x, t, a, plan.choices))(x, token, at)

  # A device finds the rows of its own groups: left to XLA, it may sum all tokens on every device.
  x_GRD = axes.local(take, [work.x, plan.token, *at], [wide, *[narrow] * 4], wide)
  x_EGCD = x_GRD.reshape(groups, experts, capacity, embed).swapaxes(0, 1)
  # Both sides are told: told of one only, XLA gathers all tokens on every device.
  x_EGCD = constrain(x_EGCD, None, "batch", "capacity", "embed")
  x_EGCD = constrain(x_EGCD, "expert", "groups", "capacity", "embed")
  y_EGCD = work.expert(x_EGCD, work.weights, of_every_expert(4), work.key)
  y_EGCD = constrain(y_EGCD, "expert", "groups", "capacity", "embed")
  filled_GR = at[1] < plan.expert.shape[1]
  filled_EGC = filled_GR.reshape(groups, experts, capacity).swapaxes(0, 1)
  squares_E = _squares(y_EGCD, constrain(filled_EGC, "expert", "groups", "capacity"))
  y_EGCD = constrain(y_EGCD, None, "batch", "capacity", "embed")
  y_GRD = y_EGCD.swapaxes(0, 1).reshape(groups, seats, embed)

  def combine(y: jax.Array, weight: jax.Array, token: jax.Array, *at: jax.Array) -> jax.Array:
    one = functools.partial(_rows.combine, tokens=tokens, choices=plan.choices)
    return jax.vmap(one)(y, weight, token, at)

  y_GND = axes.local(combine, [y_GRD, plan.weight, plan.token, *at], [wide, *[narrow] * 5], wide)
  return y_GND.astype(work.x.dtype), squares_E


EXAMPLES = [Gather(), Gather(spread=0.0, block=4)]
