"""FAVOR+ (Performer, 2009.14794): random features under which linear attention is softmax's.

For ω of a standard normal distribution, E[exp(ω·q − |q|²/2) exp(ω·k − |k|²/2)] = exp(q·k). The mean
over a few ω estimates what softmax attention weighs keys by, without a bias, and no feature is
negative.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from mtm.errors import UserError
from mtm.parts.mixers.linear import Features, LinearAttention


@dataclasses.dataclass(frozen=True)
class RandomFeatures:
  """Positive orthogonal random features: `LinearAttention(..., feature_map=RandomFeatures(256))`.

  All heads, and all repetitions of a stack's period, have the same. The original draws new ones
  now and then in training: here one would go on with another seed, from a checkpoint, as features
  are no parameters.

  Attributes:
    features: how many; the estimate's error falls with their square root.
    seed: of the draw.
  """

  features: int = 256
  seed: int = 0

  def __post_init__(self) -> None:
    if self.features < 1:
      raise UserError(f"RandomFeatures.features = {self.features}: there must be at least 1")

  def __call__(self, x_BLHK: jax.Array) -> Features:
    """Features whose products are exp(q·k / √head_dim) in the mean over seeds."""
    width = x_BLHK.shape[-1]
    x_BLHK = x_BLHK.astype(jnp.float32) * width**-0.25
    drawn_MK = jnp.asarray(directions(self.features, width, self.seed))
    s_BLHM = jnp.einsum("blhk,mk->blhm", x_BLHK, drawn_MK)
    # The largest exponent goes into the scale: what is left lies in (0, 1].
    top_BLH1 = jax.lax.stop_gradient(jnp.max(s_BLHM, axis=-1, keepdims=True))
    log_scale_BLH = top_BLH1[..., 0] - 0.5 * jnp.sum(x_BLHK * x_BLHK, axis=-1)
    return Features(jnp.exp(s_BLHM - top_BLH1) * self.features**-0.5, log_scale_BLH)


@functools.lru_cache
def directions(features: int, width: int, seed: int) -> np.ndarray:
  """The ω of `RandomFeatures`: rows of a standard normal distribution, float32 `[features, width]`.

  Each group of `width` rows is orthogonal, which lowers the variance of the estimate; the lengths
  are drawn apart, so that a row alone is a normal one.
  """
  rng = np.random.default_rng(seed)
  groups = []
  for _ in range(-(-features // width)):
    q, r = np.linalg.qr(rng.normal(size=(width, width)))
    groups.append((q * np.sign(np.diag(r))).T)  # without the signs they would not be uniform
  lengths = np.linalg.norm(rng.normal(size=(features, width)), axis=1, keepdims=True)
  return (np.concatenate(groups)[:features] * lengths).astype(np.float32)


EXAMPLES = [
  LinearAttention(4, 8, feature_map=RandomFeatures(16)),
  LinearAttention(2, 4, feature_map=RandomFeatures(7, seed=1), chunk=2),
  LinearAttention(4, 4, causal=False, feature_map=RandomFeatures(8), chunk=3),
]
