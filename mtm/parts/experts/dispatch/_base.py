"""The dispatch seam: which pairs of a routing are worked on, and what place each gets."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp

from mtm.parts.experts.routers._base import Routing

BLOCK = 64  # pairs that are counted by one matmul


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Plan:
  """The pairs that are worked on. Letters: P pairs, E experts.

  Attributes:
    token: `[pairs]` int32, in [0, tokens).
    expert: `[pairs]` int32, in [0, experts]; `experts` where a pair is not worked on.
    weight: `[pairs]` float32; 0 where a pair is not worked on.
    place: `[pairs]` int32, its row among those of its expert; of no meaning where there is none.
    dropped: float32 scalar, pairs with an expert that found no place.
    experts: how many there are.
    capacity: no expert has more rows than that; None: one can have all pairs.
    choices: see `Routing`.
  """

  token: jax.Array
  expert: jax.Array
  weight: jax.Array
  place: jax.Array
  dropped: jax.Array
  experts: int = dataclasses.field(metadata={"static": True})
  capacity: int | None = dataclasses.field(default=None, metadata={"static": True})
  choices: int | None = dataclasses.field(default=None, metadata={"static": True})


class Dispatch(Protocol):
  """A frozen dataclass whose fields are its numbers."""

  def __call__(self, routing: Routing, experts: int, tokens: int) -> Plan:
    """The plan of one group of so many tokens, padding included."""


def places(expert_P: jax.Array, experts: int) -> jax.Array:
  """`[pairs]` int32: how many pairs before it have its expert.

  Within a block the count is a matmul with a triangle of ones, exact below 2²⁴ in any precision:
  a cumulative sum over all pairs takes longer on every platform.
  """
  pairs = expert_P.shape[0]
  blocks = -(-pairs // BLOCK)
  padded = jnp.pad(expert_P, (0, blocks * BLOCK - pairs), constant_values=experts)
  chosen_XBE = jax.nn.one_hot(padded.reshape(blocks, BLOCK), experts, dtype=jnp.float32)
  before_BB = jnp.tril(jnp.ones((BLOCK, BLOCK), jnp.float32), -1)
  within_XBE = jnp.einsum("bc,xce->xbe", before_BB, chosen_XBE)
  count_XE = jnp.sum(chosen_XBE, axis=1)
  before_X1E = (jnp.cumsum(count_XE, axis=0) - count_XE)[:, None, :]
  place_XB = jnp.sum((within_XBE + before_X1E) * chosen_XBE, axis=2)
  return place_XB.reshape(-1)[:pairs].astype(jnp.int32)
