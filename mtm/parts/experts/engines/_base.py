"""The engine seam: what every engine is given, and which one takes the work.

Letters beyond those of `mtm.axes`: G groups of tokens, N the tokens of a group, P its pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from mtm.discovery import modules
from mtm.errors import UserError, nearest
from mtm.parts.experts.dispatch._base import Plan
from mtm.parts.experts.mlp import Expert, Product


@dataclasses.dataclass(frozen=True)
class Work:
  """Everything that an engine must honour or refuse.

  Attributes:
    x: `[groups, tokens, embed]`, in the compute dtype.
    plan: of all groups: its arrays have a leading axis `groups`.
    expert: what an expert computes.
    weights: of all experts, in the compute dtype, each with a leading axis `experts`.
    key: for the experts' dropout; None: nothing is dropped.
  """

  x: jax.Array
  plan: Plan
  expert: Expert
  weights: Mapping[str, Any]
  key: jax.Array | None = None


class Engine(Protocol):
  """A module of this package ends with `EXAMPLES`, its engines; the first of them goes by the
  module's name and is a candidate for "auto"."""

  def supports(self, work: Work) -> str | None:
    """None if this engine can do the work as asked here, else the reason why not."""

  def cost(self, work: Work) -> float:
    """About how long it takes, in units of the experts' arithmetic on the pairs alone. Of several
    engines the cheapest is taken."""

  def __call__(self, work: Work) -> tuple[jax.Array, jax.Array]:
    """`[groups, tokens, embed]`, the weighted sum of what a token's experts say, in the dtype of
    `x`, 0 where it has none; and `[experts]` float32, the summed squares of what each expert says
    of its rows, before the weights, without a gradient."""


def perform(work: Work, engine: Engine | str = "auto") -> tuple[jax.Array, jax.Array]:
  """Does the work; see `Engine.__call__`.

  Args:
    work: what is to be done.
    engine: an engine or its name; "auto": the cheapest one that supports the work.

  Raises:
    UserError: no engine has this name, or the engine cannot do the work.
  """
  taken = _named(engine, work) if isinstance(engine, str) else engine
  reason = taken.supports(work)
  if reason is not None:
    raise UserError(f"the expert engine {type(taken).__name__} cannot do this: {reason}")
  return taken(work)


def _named(name: str, work: Work) -> Engine:
  """The engine of this name, where "auto" is the cheapest that can do the work."""
  named = {module.__name__.rsplit(".", 1)[1]: module.EXAMPLES[0] for module in modules(__package__)}
  able = [engine for engine in named.values() if engine.supports(work) is None]
  candidates = {**named, "auto": min(able, key=lambda engine: engine.cost(work))}
  if name not in candidates:
    raise UserError(f"no expert engine is called {name!r}{nearest(name, candidates)}")
  return candidates[name]


def of_every_expert(rank: int) -> Product:
  """The product for rows `[experts, ..., in]` of that rank, and weights with a leading axis."""

  def product(rows: jax.Array, layer: Mapping[str, jax.Array]) -> jax.Array:
    y = jnp.einsum("e...i,eio->e...o", rows, layer["kernel"])
    if "bias" in layer:
      bias = layer["bias"]
      y = y + bias.reshape(bias.shape[0], *(1,) * (rank - 2), bias.shape[1])
    return y

  return product
