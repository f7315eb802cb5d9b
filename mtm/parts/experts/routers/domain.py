"""DEMix (2108.05036): each domain of the data has an expert of its own.

`mtm.parts.experts.banks` adds and removes one, `mtm.decoding.domains` mixes them where the domain
of a text is not known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mtm.parts.experts.routers._base import Routing, Tokens, Weights, by_choice, fact
from mtm.parts.linear import Spec


@dataclasses.dataclass(frozen=True)
class Domain:
  """A token goes to the expert whose number is its example's label: the batch feature
  `decoder_domain` (or `encoder_domain`), `[batch, length]`.

  A label that is no expert's goes nowhere: the layer says 0 of it. It learns nothing.
  """

  def parameters(self, embed: int, experts: int) -> Mapping[str, Spec]:
    del embed, experts
    return {}

  def __call__(
    self, x_ND: jax.Array, weights: Weights, tokens: Tokens, experts: int, key: jax.Array | None
  ) -> Routing:
    need = "a router by domain reads the feature decoder_domain or encoder_domain, an int32 label"
    domain_N = fact(tokens, "domain", need)
    expert_N = jnp.where((domain_N >= 0) & (domain_N < experts), domain_N, experts)
    return by_choice(expert_N[:, None], jnp.ones((x_ND.shape[0], 1), jnp.float32), tokens, experts)


EXAMPLES = [Domain()]
