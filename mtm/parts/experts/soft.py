"""Soft mixture of experts (2308.00951): experts read weighted means of tokens, so none is dropped.

No router of `mtm.parts.experts.routers` can say this: what an expert reads is no token but a mix of
all. It is a channel mixer of its own, with the same experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.axes import constrain
from mtm.parts.context import Aux, Context
from mtm.parts.experts.engines._base import of_every_expert
from mtm.parts.experts.layer import bank
from mtm.parts.experts.mlp import Expert
from mtm.parts.linear import Initializer, Parameters, Spec, fan_in


class SoftExperts(nn.Module):
  """Each slot of an expert reads a mean of a row's tokens, and each token a mean of what slots say.

  Both are softmaxes of one table of logits, the scaled cosines of tokens and slots (§2.3): over
  tokens on the way in, over slots on the way out. A row is a group: its documents are mixed where
  several are packed in it, so give each a row of its own. Padding is mixed into nothing.

  Metrics: `load` `[experts]`, the share of the tokens' weights that each expert has; its
  `load_entropy`, `dropped`, `dead` and `output_norm` as `Experts` has them.

  Attributes:
    experts: how many there are.
    expert: what each computes.
    slots: of an expert. The paper's best: one in all for each token, that is length / experts.
    weight_init: initialiser of the slots' vectors.
  """

  causal: ClassVar[bool] = False  # so that a decoder refuses it

  experts: int
  expert: Expert
  slots: int = 1
  weight_init: Initializer = fan_in

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape."""
    batch, length, embed = x_BLD.shape
    router = Parameters(self._router(embed), name="router")()
    weights = Parameters(bank(self.expert.parameters(embed), self.experts), name="expert")()
    weights = jax.tree.map(lambda w: w.astype(x_BLD.dtype), weights)
    segments = context.segments
    real_BL = jnp.ones((batch, length), bool) if segments is None else segments > 0

    into_BLP, out_BLP = _mixes(x_BLD, router, real_BL)
    into_BLES = into_BLP.reshape(batch, length, self.experts, self.slots)
    out_BLES = out_BLP.reshape(batch, length, self.experts, self.slots)
    x_EBSD = jnp.einsum("bles,bld->ebsd", into_BLES.astype(x_BLD.dtype), x_BLD)
    x_EBSD = constrain(x_EBSD, None, "batch", "capacity", "embed")
    x_EBSD = constrain(x_EBSD, "expert", "groups", "capacity", "embed")
    drop = self.make_rng("dropout") if context.train and self.has_rng("dropout") else None
    y_EBSD = self.expert(x_EBSD, weights, of_every_expert(4), drop)
    y_EBSD = constrain(y_EBSD, "expert", "groups", "capacity", "embed")
    y_EBSD = constrain(y_EBSD, None, "batch", "capacity", "embed").astype(jnp.float32)
    y_BLD = jnp.einsum("bles,ebsd->bld", out_BLES, y_EBSD)
    load_E = jnp.sum(out_BLES, axis=(0, 1, 3)) / jnp.maximum(jnp.sum(out_BLES), 1.0)
    metrics = jax.lax.stop_gradient(_metrics(load_E, y_EBSD))
    return y_BLD.astype(x_BLD.dtype), Aux(None, {}, metrics)

  def _router(self, embed: int) -> Mapping[str, Spec]:
    slots = self.experts * self.slots
    return {
      "kernel": Spec(self.weight_init, (embed, slots), ("embed", None)),
      "scale": Spec(jax.nn.initializers.ones, (1,), (None,)),
    }


def _mixes(
  x_BLD: jax.Array, router: Mapping[str, jax.Array], real_BL: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """`[batch, length, slots]` float32 twice: what slots read of tokens, and tokens of slots."""
  kernel_DP = router["scale"][:, None] * _unit(router["kernel"].astype(jnp.float32), 0)
  x_BLD = _unit(x_BLD.astype(jnp.float32), 2)
  logits_BLP = jnp.einsum("bld,dp->blp", x_BLD, kernel_DP, precision=jax.lax.Precision.HIGHEST)
  real_BL1 = real_BL[..., None]
  into_BLP = jax.nn.softmax(jnp.where(real_BL1, logits_BLP, -1e9), axis=1)
  out_BLP = jnp.where(real_BL1, jax.nn.softmax(logits_BLP, axis=2), 0.0)
  return into_BLP, out_BLP


def _unit(x: jax.Array, axis: int) -> jax.Array:
  """`x` with length 1 along `axis`; 0 stays 0, with a gradient that is finite."""
  squares = jnp.sum(jnp.square(x), axis=axis, keepdims=True)
  return x * jax.lax.rsqrt(squares + 1e-12)


def _metrics(load_E: jax.Array, y_EBSD: jax.Array) -> dict[str, jax.Array]:
  """See `SoftExperts`."""
  experts, batch, slots, _ = y_EBSD.shape
  entropy = jnp.sum(jax.scipy.special.entr(load_E)) / jnp.log(jnp.float32(max(experts, 2)))
  squares_E = jnp.sum(jnp.square(y_EBSD), axis=(1, 2, 3))
  return {
    "load": load_E,
    "load_entropy": entropy,
    "dropped": jnp.float32(0),
    "dead": jnp.mean((load_E == 0).astype(jnp.float32)),
    "output_norm": jnp.sqrt(squares_E / (batch * slots)),
  }
