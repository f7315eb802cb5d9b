"""Switch (2101.03961): each token goes to the one expert that its router likes best."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax

from mtm.parts.experts.routers._base import (
  Routing,
  Tokens,
  Weights,
  by_choice,
  jittered,
  linear,
  logits_of,
  penalties,
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
    return linear(embed, experts, self.weight_init, self.bias)

  def __call__(
    self, x_ND: jax.Array, weights: Weights, tokens: Tokens, experts: int, key: jax.Array | None
  ) -> Routing:
    logits_NE = logits_of(jittered(x_ND, self.jitter, key), weights)
    probabilities_NE = jax.nn.softmax(logits_NE)
    weight_N1, expert_N1 = jax.lax.top_k(probabilities_NE, 1)
    told = penalties(self, logits_NE, probabilities_NE, expert_N1, tokens)
    return by_choice(expert_N1, weight_N1, tokens, experts, *told)


EXAMPLES = [Switch(), Switch(jitter=0.0, z=0.0, bias=True)]
