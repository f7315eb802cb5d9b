"""BASE (2103.16716): in training each expert gets the same number of tokens, by an assignment that
is the best for all of them together; no loss has to balance anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mtm.parts.experts.dispatch._base import places
from mtm.parts.experts.routers._base import (
  Routing,
  Tokens,
  Weights,
  by_choice,
  linear,
  logits_of,
  z_loss,
)
from mtm.parts.linear import Initializer, Spec


@dataclasses.dataclass(frozen=True)
class Base:
  """No expert gets more than ⌈real tokens / experts⌉ of a group; outside training each token goes
  where it likes best. The weight is the sigmoid of the token's score.

  The paper's auction takes as many rounds as the scores happen to need. Here Sinkhorn's iterations
  find a price for each expert, then tokens go to the best expert that has a place, those that have
  most to lose first: on random scores 95 to 100 % of what the best assignment gains over chance.

  Attributes:
    iterations: Sinkhorn's.
    temperature: of Sinkhorn's soft assignment, in standard deviations of the scores.
    weight_init: initialiser of the experts' vectors (the paper's code: orthogonal, gain 0.1).
  """

  iterations: int = 30
  temperature: float = 0.1
  weight_init: Initializer = jax.nn.initializers.orthogonal(0.1)

  def parameters(self, embed: int, experts: int) -> Mapping[str, Spec]:
    return linear(embed, experts, self.weight_init)

  def __call__(
    self, x_ND: jax.Array, weights: Weights, tokens: Tokens, experts: int, key: jax.Array | None
  ) -> Routing:
    score_NE = logits_of(x_ND, weights)
    fixed_NE = jax.lax.stop_gradient(score_NE)
    if key is None:
      expert_N1 = jnp.argmax(fixed_NE, axis=1, keepdims=True)
    else:
      priced_NE = priced(fixed_NE, tokens.real, self.iterations, self.temperature)
      expert_N1 = seated(priced_NE, tokens.real)[:, None]
    own_N1 = jnp.minimum(expert_N1, experts - 1)
    weight_N1 = jax.nn.sigmoid(jnp.take_along_axis(score_NE, own_N1, axis=1))
    metrics = {"router_z": z_loss(score_NE, tokens)}
    return by_choice(expert_N1, weight_N1, tokens, experts, {}, metrics)


def priced(
  score_NE: jax.Array, real_N: jax.Array, iterations: int, temperature: float
) -> jax.Array:
  """Scores over `temperature`, less each expert's price, at which real tokens want all alike.

  Args:
    score_NE: `[tokens, experts]` float32.
    real_N: which tokens count.
    iterations: of Sinkhorn's algorithm.
    temperature: in standard deviations of a token's scores.

  Returns:
    `[tokens, experts]` float32.
  """
  experts = score_NE.shape[1]
  real_N1 = real_N[:, None]
  centred_NE = jnp.where(real_N1, score_NE - jnp.mean(score_NE, axis=1, keepdims=True), 0.0)
  count = jnp.maximum(jnp.sum(real_N.astype(jnp.float32)), 1.0)
  deviation = jnp.sqrt(jnp.sum(jnp.square(centred_NE)) / (count * experts))
  scaled_NE = centred_NE / (temperature * deviation + 1e-9)

  def step(_: int, price_1E: jax.Array) -> jax.Array:
    chosen_NE = jax.nn.log_softmax(scaled_NE - price_1E, axis=1)
    wanted_1E = jax.nn.logsumexp(chosen_NE, axis=0, keepdims=True, where=real_N1)
    return price_1E + wanted_1E - jnp.log(count / experts)

  price_1E = jax.lax.fori_loop(0, iterations, step, jnp.zeros((1, experts), jnp.float32))
  return scaled_NE - price_1E


def seated(score_NE: jax.Array, real_N: jax.Array) -> jax.Array:
  """`[tokens]` int32: an expert for each real token, none with more than ⌈real tokens / experts⌉;
  `experts` at the others.

  In rounds: each token that has none asks for the best expert with a place, and where more ask than
  there are places those come first who are furthest from their second best. Each round fills an
  expert or is the last.
  """
  n, experts = score_NE.shape
  size = -(-jnp.sum(real_N.astype(jnp.int32)) // experts)

  def left(expert_N: jax.Array) -> jax.Array:
    return size - jnp.sum(jax.nn.one_hot(expert_N, experts, dtype=jnp.int32), axis=0)

  def waiting(expert_N: jax.Array) -> jax.Array:
    return real_N & (expert_N == experts)

  def another(expert_N: jax.Array) -> jax.Array:
    left_E = left(expert_N)
    open_NE = jnp.where((left_E > 0)[None, :], score_NE, -jnp.inf)
    best_NK, asked_NK = jax.lax.top_k(open_NE, min(2, experts))
    asked_N = jnp.where(waiting(expert_N), asked_NK[:, 0].astype(jnp.int32), experts)
    order_N = jnp.argsort(best_NK[:, -1] - best_NK[:, 0])
    place_N = jnp.zeros((n,), jnp.int32).at[order_N].set(places(asked_N[order_N], experts))
    free_N = left_E[jnp.minimum(asked_N, experts - 1)]
    return jnp.where((asked_N < experts) & (place_N < free_N), asked_N, expert_N)

  start_N = jnp.full((n,), experts, jnp.int32)
  return jax.lax.while_loop(lambda expert_N: jnp.any(waiting(expert_N)), another, start_N)


EXAMPLES = [Base()]
