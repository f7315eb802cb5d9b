"""k top-1 (M6-T, 2105.15082): experts stand in k groups, and each token chooses one of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mtm.errors import UserError
from mtm.parts.experts.routers._base import (
  Routing,
  Tokens,
  Weights,
  balance_loss,
  by_choice,
  jittered,
  linear,
  logits_of,
  z_loss,
)
from mtm.parts.linear import Initializer, Spec, normal


@dataclasses.dataclass(frozen=True)
class Prototyped:
  """Top-1 of a softmax over each group ("prototype") of experts, all groups at once.

  Attributes:
    groups: how many; the first experts / groups experts are the first of them.
    balance: weight of the load-balancing loss, the mean over groups. The paper finds that a model
      does no better with it.
    jitter, z, bias, weight_init: see `Switch`.
  """

  groups: int = 2
  balance: float = 0.0
  jitter: float = 0.0
  z: float = 0.0
  bias: bool = False
  weight_init: Initializer = normal(0.02)

  def parameters(self, embed: int, experts: int) -> Mapping[str, Spec]:
    return linear(embed, experts, self.weight_init, self.bias)

  def __call__(
    self, x_ND: jax.Array, weights: Weights, tokens: Tokens, experts: int, key: jax.Array | None
  ) -> Routing:
    if experts % self.groups:
      raise UserError(
        f"{experts} experts cannot stand in groups = {self.groups} of equal size: choose a divisor"
      )
    each = experts // self.groups
    logits_NE = logits_of(jittered(x_ND, self.jitter, key), weights)
    logits_KNE = jnp.swapaxes(logits_NE.reshape(-1, self.groups, each), 0, 1)
    probabilities_KNE = jax.nn.softmax(logits_KNE)
    weight_KN1, expert_KN1 = jax.lax.top_k(probabilities_KNE, 1)
    over_groups = jax.vmap(balance_loss, (0, 0, None))
    balance = jnp.mean(over_groups(probabilities_KNE, expert_KN1, tokens))
    z = jnp.mean(jax.vmap(z_loss, (0, None))(logits_KNE, tokens))
    losses = {"balance": self.balance * balance, "router_z": self.z * z}
    expert_KN = expert_KN1[..., 0] + each * jnp.arange(self.groups)[:, None]
    weight_NK = weight_KN1[..., 0].T
    return by_choice(expert_KN.T, weight_NK, tokens, experts, losses, {"router_z": z})


EXAMPLES = [Prototyped(2, balance=0.01, z=0.001, bias=True)]
