"""Dropless (MegaBlocks, 2211.15841): every pair is worked on, however uneven the load."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from mtm.parts.experts.dispatch._base import Plan, places
from mtm.parts.experts.routers._base import Routing


@dataclasses.dataclass(frozen=True)
class Dropless:
  """No pair is dropped: an example's output does not depend on its neighbours in the batch."""

  def __call__(self, routing: Routing, experts: int, tokens: int) -> Plan:
    return Plan(
      token=routing.token,
      expert=routing.expert,
      weight=routing.weight,
      place=places(routing.expert, experts),
      dropped=jnp.float32(0),
      experts=experts,
      capacity=None,
      choices=routing.choices,
    )


EXAMPLES = [Dropless()]
