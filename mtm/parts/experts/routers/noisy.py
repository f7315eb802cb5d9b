"""Noisy top-k gating (1701.06538): noise of a learned size, and losses on importance and load."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mtm.parts.experts.routers._base import (
  Routing,
  Tokens,
  Weights,
  at_most,
  by_choice,
  linear,
  logits_of,
  z_loss,
)
from mtm.parts.linear import Initializer, Spec

LEAST = 0.01  # standard deviation of the noise where its softplus is 0; load is divided by it


@dataclasses.dataclass(frozen=True)
class Noisy:
  """Top-k of `x·kernel + normal · softplus(x·noise)`, and a softmax over them (equations 3 to 5).

  Losses, each the squared coefficient of variation over experts (equations 6 to 11): `importance`,
  of the sums of weights; `load`, of a smooth count of tokens, the probability of each to choose the
  expert were its noise drawn again.

  Attributes:
    k: experts of a token.
    importance, load: weights of the losses (the paper: 0.1 each).
    weight_init: initialiser of both kernels (the paper: zeros, that is an even load).
  """

  k: int = 4
  importance: float = 0.1
  load: float = 0.1
  weight_init: Initializer = jax.nn.initializers.zeros

  def parameters(self, embed: int, experts: int) -> Mapping[str, Spec]:
    kernel = linear(embed, experts, self.weight_init)
    return {**kernel, **linear(embed, experts, self.weight_init, name="noise")}

  def __call__(
    self, x_ND: jax.Array, weights: Weights, tokens: Tokens, experts: int, key: jax.Array | None
  ) -> Routing:
    clean_NE = logits_of(x_ND, weights)
    deviation_NE = jax.nn.softplus(logits_of(x_ND, weights, "noise")) + LEAST
    logits_NE = clean_NE
    if key is not None:
      logits_NE = clean_NE + deviation_NE * jax.random.normal(key, clean_NE.shape, jnp.float32)
    best_NK, expert_NK = jax.lax.top_k(logits_NE, at_most(self.k, experts))
    weight_NK = jax.nn.softmax(best_NK)
    real_N1 = tokens.real[:, None].astype(jnp.float32)
    chosen_NKE = jax.nn.one_hot(expert_NK, experts, dtype=jnp.float32)
    importance_E = jnp.einsum("nke,nk->e", chosen_NKE, weight_NK * real_N1)
    chance_NE = _chance(logits_NE, clean_NE, deviation_NE, self.k)
    losses = {
      "importance": self.importance * squared_variation(importance_E),
      "load": self.load * squared_variation(jnp.sum(chance_NE * real_N1, axis=0)),
    }
    metrics = {"router_z": z_loss(clean_NE, tokens)}
    return by_choice(expert_NK, weight_NK, tokens, experts, losses, metrics)


def _chance(
  logits_NE: jax.Array, clean_NE: jax.Array, deviation_NE: jax.Array, k: int
) -> jax.Array:
  """`[tokens, experts]`: the probability that an expert is among the best k, the noise of the other
  ones as it is (equation 9)."""
  if k == logits_NE.shape[1]:
    return jnp.ones_like(logits_NE)
  best_NK = jax.lax.top_k(logits_NE, k + 1)[0]
  last_N1, next_N1 = best_NK[:, k - 1 : k], best_NK[:, k : k + 1]
  to_beat_NE = jnp.where(logits_NE > next_N1, next_N1, last_N1)
  return jax.scipy.stats.norm.cdf((clean_NE - to_beat_NE) / deviation_NE)


def squared_variation(values_E: jax.Array) -> jax.Array:
  """The variance of `[experts]` values over their squared mean, a scalar; 0 where all are 0."""
  mean = jnp.mean(values_E)
  return jnp.mean(jnp.square(values_E - mean)) / (jnp.square(mean) + 1e-10)


EXAMPLES = [Noisy(2), Noisy()]
