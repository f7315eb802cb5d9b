"""Expert choice (2202.09368): each expert picks the tokens that it likes best, so all are busy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from mtm.parts.experts.routers._base import (
  Routing,
  Tokens,
  Weights,
  jittered,
  linear,
  logits_of,
  z_loss,
)
from mtm.parts.linear import Initializer, Spec, normal


@dataclasses.dataclass(frozen=True)
class ExpertChoice:
  """Each expert picks round(factor · real tokens / experts) tokens of a group, at least one.

  A token may be picked by many or by none. What is picked depends on later tokens too: it is no
  router for a decoder. Give it a dispatch that drops nobody, or as many places by `size`.

  Attributes:
    factor: experts of a token, on average.
    size: tokens that an expert picks, whatever `factor` says; None: as said above.
    jitter, z, bias, weight_init: see `Switch`. No loss has to balance anything.
  """

  causal: ClassVar[bool] = False  # so that a decoder refuses it

  factor: float = 2.0
  size: int | None = None
  jitter: float = 0.0
  z: float = 0.0
  bias: bool = False
  weight_init: Initializer = normal(0.02)

  def parameters(self, embed: int, experts: int) -> Mapping[str, Spec]:
    return linear(embed, experts, self.weight_init, self.bias)

  def __call__(
    self, x_ND: jax.Array, weights: Weights, tokens: Tokens, experts: int, key: jax.Array | None
  ) -> Routing:
    n = x_ND.shape[0]
    logits_NE = logits_of(jittered(x_ND, self.jitter, key), weights)
    probabilities_NE = jax.nn.softmax(logits_NE)
    liked_EN = jnp.where(tokens.real[None, :], probabilities_NE.T, -1.0)
    size = min(self.size or max(round(self.factor * n / experts), 1), n)
    weight_EC, token_EC = jax.lax.top_k(liked_EN, size)
    picks_EC = tokens.real[token_EC]
    if self.size is None:  # padding brings no place
      share = self.factor * jnp.sum(tokens.real.astype(jnp.float32)) / experts
      rank_C = jnp.arange(size, dtype=jnp.float32)
      picks_EC &= (rank_C < jnp.maximum(jnp.round(share), 1.0))[None, :]
    own_EC = jnp.broadcast_to(jnp.arange(experts, dtype=jnp.int32)[:, None], picks_EC.shape)
    z = z_loss(logits_NE, tokens)
    return Routing(
      token=token_EC.reshape(-1).astype(jnp.int32),
      expert=jnp.where(picks_EC, own_EC, experts).reshape(-1),
      weight=jnp.where(picks_EC, weight_EC, 0.0).reshape(-1),
      losses={"router_z": self.z * z},
      metrics={"router_z": z},
    )


EXAMPLES = [ExpertChoice(), ExpertChoice(size=3, jitter=0.01, z=0.001, bias=True)]
