"""Switch (2101.03961): each token goes to the one expert that its router likes best."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mtm.parts.experts.routers._base import (
  Routing,
  Tokens,
  Weights,
  balance_loss,
  by_choice,
  z_loss,
)
from mtm.parts.linear import Initializer, Spec, normal


@dataclasses.dataclass(frozen=True)
class Switch:
  """Top-1 of a softmax, whose probability is the weight.

  Attributes:
    jitter: in training, what the router reads is multiplied by noise drawn from
      [1 − jitter, 1 + jitter] (the paper: 0.01).
    balance: weight of the load-balancing loss (the paper: 0.01).
    z: weight of the z-loss, which keeps logits small (2202.08906: 0.001).
    bias: whether the logits have a bias.
    weight_init: initialiser of the router's kernel.
  """

  jitter: float = 0.01
  balance: float = 0.01
  z: float = 0.001
  bias: bool = False
  weight_init: Initializer = normal(0.02)

  def parameters(self, embed: int, experts: int) -> Mapping[str, Spec]:
    specs = {"kernel": Spec(self.weight_init, (embed, experts), ("embed", None))}
    if self.bias:
      specs["bias"] = Spec(jax.nn.initializers.zeros, (experts,), (None,))
    return specs

  def __call__(
    self, x_ND: jax.Array, weights: Weights, tokens: Tokens, experts: int, key: jax.Array | None
  ) -> Routing:
    x_ND = jittered(x_ND.astype(jnp.float32), self.jitter, key)
    logits_NE = logits_of(x_ND, weights)
    probabilities_NE = jax.nn.softmax(logits_NE)
    expert_N = jnp.argmax(probabilities_NE, axis=-1)
    weight_N = jnp.max(probabilities_NE, axis=-1)
    z = z_loss(logits_NE, tokens)
    losses = {
      "balance": self.balance * balance_loss(probabilities_NE, expert_N, tokens),
      "router_z": self.z * z,
    }
    return by_choice(expert_N[:, None], weight_N[:, None], tokens, experts, losses, {"router_z": z})


def jittered(x_ND: jax.Array, jitter: float, key: jax.Array | None) -> jax.Array:
  """`x` times uniform noise of [1 − jitter, 1 + jitter]; `x` itself without a key."""
  if key is None or jitter == 0.0:
    return x_ND
  return x_ND * jax.random.uniform(key, x_ND.shape, jnp.float32, 1.0 - jitter, 1.0 + jitter)


def logits_of(x_ND: jax.Array, weights: Weights) -> jax.Array:
  """`[tokens, experts]` float32 logits of a linear router, at the highest precision."""
  kernel = weights["kernel"].astype(jnp.float32)
  logits_NE = jnp.dot(x_ND, kernel, precision=jax.lax.Precision.HIGHEST)
  return logits_NE + weights["bias"][None, :] if "bias" in weights else logits_NE


EXAMPLES = [Switch(), Switch(jitter=0.0, z=0.0, bias=True)]
