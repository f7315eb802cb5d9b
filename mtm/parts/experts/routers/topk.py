"""Each token goes to its k best experts (GShard, 2006.16668; Mixtral, 2401.04088)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from mtm.parts.experts.routers._base import (
  Routing,
  Tokens,
  Weights,
  at_most,
  by_choice,
  jittered,
  linear,
  logits_of,
  penalties,
)
from mtm.parts.linear import Initializer, Spec, normal

# (weights `[tokens, choices]`, key or None) → bool of the same shape: which choices hold. The first
# one holds whatever is said of it.
Policy = Callable[[jax.Array, jax.Array | None], jax.Array]


def every_choice(weight_NK: jax.Array, key: jax.Array | None) -> jax.Array:
  """Every choice holds: a bool array of the shape of `weight_NK`."""
  del key
  return jnp.ones_like(weight_NK, bool)


@dataclasses.dataclass(frozen=True)
class AtRandom:
  """GShard: a choice holds with probability `scale` · its weight; outside training it does."""

  scale: float = 2.0

  def __call__(self, weight_NK: jax.Array, key: jax.Array | None) -> jax.Array:
    if key is None:
      return every_choice(weight_NK, None)
    return jax.random.uniform(key, weight_NK.shape, jnp.float32) < self.scale * weight_NK


@dataclasses.dataclass(frozen=True)
class Above:
  """A choice holds if its weight is above a threshold."""

  threshold: float = 0.2

  def __call__(self, weight_NK: jax.Array, key: jax.Array | None) -> jax.Array:
    del key
    return weight_NK > self.threshold


@dataclasses.dataclass(frozen=True)
class TopK:
  """The k most probable experts of a softmax over all.

  The defaults are those of GShard; `TopK(2, later=every_choice, counted=2)` is Mixtral, and with
  `normalise=False` V-MoE (2106.05974).

  Attributes:
    k: experts of a token.
    later: which of the choices after the first hold: `every_choice`, `AtRandom()`, `Above()`.
    normalise: whether a token's k weights are scaled so that they add up to 1.
    counted: so many of the choices count as load in the balance loss, whether they hold or not.
    jitter, balance, z, bias, weight_init: see `Switch`.
  """

  k: int = 2
  later: Policy = AtRandom()
  normalise: bool = True
  counted: int = 1
  jitter: float = 0.0
  balance: float = 0.01
  z: float = 0.0
  bias: bool = False
  weight_init: Initializer = normal(0.02)

  def parameters(self, embed: int, experts: int) -> Mapping[str, Spec]:
    return linear(embed, experts, self.weight_init, self.bias)

  def __call__(
    self, x_ND: jax.Array, weights: Weights, tokens: Tokens, experts: int, key: jax.Array | None
  ) -> Routing:
    noise, lots = (None, None) if key is None else jax.random.split(key)
    logits_NE = logits_of(jittered(x_ND, self.jitter, noise), weights)
    probabilities_NE = jax.nn.softmax(logits_NE)
    weight_NK, expert_NK = jax.lax.top_k(probabilities_NE, at_most(self.k, experts))
    if self.normalise:
      weight_NK = weight_NK / jnp.sum(weight_NK, axis=1, keepdims=True)
    counted_NK = expert_NK[:, : self.counted]
    told = penalties(self, logits_NE, probabilities_NE, counted_NK, tokens)
    holds_NK = self.later(weight_NK, lots) | (jnp.arange(self.k) == 0)[None, :]
    expert_NK = jnp.where(holds_NK, expert_NK, experts)
    return by_choice(expert_NK, weight_NK, tokens, experts, *told)


EXAMPLES = [
  TopK(),
  TopK(3, Above(0.2), normalise=False, counted=3, jitter=0.1, z=0.001, bias=True),
]
