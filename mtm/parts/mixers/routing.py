"""Routing Transformer (2003.05997): attention within clusters of tokens that are like each other.

Letters beyond those of `mtm.axes`: C clusters of a head, W the tokens of a cluster, N = C · W.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.errors import UserError
from mtm.parts.attention import kernel_of
from mtm.parts.context import Aux, Context
from mtm.parts.kernels import Kernel, prepare
from mtm.parts.linear import Initializer, declare
from mtm.parts.mixers._limits import refuse_bias, refuse_cache, refuse_prefix
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.projections import into_heads, out_of_heads

TINY = 1e-6  # added to variances


class Routing(nn.Module):
  """Attention in which a cluster is the `window` tokens of a row that are nearest to a centroid.

  Queries and keys are normed, each by itself, and a causal one has its queries as keys. A token in
  several clusters gets the mean of what they say, a token in none gets 0. Documents of a packed
  row share the clusters, but no token sees another document.

  **Who is in a cluster is decided with the whole row in sight, as in the original.** A later token
  can push an earlier one out: a causal Routing hides what later tokens say, but not how they are
  clustered. There is therefore no cache, and held-out losses of a causal one may flatter it.

  Centroids are parameters. Their gradient is that of the loss `clustering`, the mean over tokens of
  half the squared distance to the nearest centroid: so a step of plain gradient descent at the rate
  η moves a centroid by η · s towards the mean of its tokens, where s is their share of all tokens
  and heads. That is online k-means, with the moving average's decay 1 − η · s; no other parameter
  has a gradient of this loss, and no centroid one of another. A moving average of its own would be
  state beside the parameters, which every step, microbatch and checkpoint had to know.

  Attributes:
    heads: attention heads.
    head_dim: size of a head.
    clusters: of each head.
    window: tokens of a cluster; None: length / clusters, rounded up.
    causal: whether a token sees only those before it, and itself.
    clustering: weight of the loss.
    kernel: the attention engine; None: the best one that supports the call.
    bias: whether the projections have biases.
    dropout: share of attention probabilities dropped in training.
    weight_init, out_init: kernel initialisers; None is fan-in.
  """

  heads: int
  head_dim: int
  clusters: int
  window: int | None = None
  causal: bool = True
  clustering: float = 1.0
  kernel: Kernel | str | None = None
  bias: bool = False
  dropout: float = 0.0
  weight_init: Initializer | None = None
  out_init: Initializer | None = None

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape; the loss `clustering`, the metric `left_out`.

    Raises:
      UserError: scores are to have a bias, a causal one is to see a bidirectional prefix, or it is
        to decode.
    """
    refuse_bias("Routing", context.bias)
    refuse_cache("Routing", "clusters are made of whole rows", context)
    if self.causal:
      refuse_prefix("Routing", context)
    q_BHLK = normed(self._into(x_BLD, "query", "heads"))
    k_BHLK = q_BHLK if self.causal else normed(self._into(x_BLD, "key", "kv_heads"))
    v_BHLK = self._into(x_BLD, "value", "kv_heads")
    shape, axes = (self.heads, self.clusters, self.head_dim), ("heads", "classes", "head_dim")
    centroid_HCK = declare(self, "centroids", on_unit_ball, shape, axes)
    real_BL = None if context.segments is None else jnp.asarray(context.segments) > 0
    away_BHLC = away_k_BHLC = distances(q_BHLK, centroid_HCK)
    if not self.causal:
      away_k_BHLC = distances(k_BHLK, centroid_HCK)
    window = self._window(x_BLD.shape[1])
    q_BHCW, k_BHCW = (members(away, window, real_BL) for away in (away_BHLC, away_k_BHLC))
    y_BHCWK = self._within(q_BHLK, k_BHLK, v_BHLK, q_BHCW, k_BHCW, context)
    y_BLHK, left_out_BLH = scattered(y_BHCWK, q_BHCW, x_BLD.shape[1])
    y_BLD = out_of_heads(y_BLHK.astype(x_BLD.dtype), x_BLD.shape[-1], self.bias, self.out_init)
    loss = 0.5 * (mean_nearest(away_BHLC, real_BL) + mean_nearest(away_k_BHLC, real_BL))
    left_out = mean_of_tokens(jnp.swapaxes(left_out_BLH, 1, 2), real_BL)
    return y_BLD, Aux(None, {"clustering": self.clustering * loss}, {"left_out": left_out})

  def _into(self, x_BLD: jax.Array, name: str, axis: str) -> jax.Array:
    """`[batch, length, embed]` → `[batch, heads, length, head_dim]`."""
    size = (self.heads, self.head_dim)
    return jnp.swapaxes(into_heads(x_BLD, *size, name, axis, self.bias, self.weight_init), 1, 2)

  def _window(self, length: int) -> int:
    if self.clusters < 1 or (self.window is not None and self.window < 1):
      raise UserError(
        f"Routing has {self.clusters} clusters of {self.window} tokens: give at least one of each"
      )
    return min(self.window or -(-length // self.clusters), length)

  def _within(
    self,
    q_BHLK: jax.Array,
    k_BHLK: jax.Array,
    v_BHLK: jax.Array,
    q_BHCW: jax.Array,
    k_BHCW: jax.Array,
    context: Context,
  ) -> jax.Array:
    """What each cluster's queries read of its keys: `[batch, heads, clusters, window, head_dim]`.

    A cluster is to the kernel a row of one head, whose tokens have the places that they come from.
    """
    *leading, window = q_BHCW.shape

    def row(x_BHLK: jax.Array, index_BHCW: jax.Array) -> jax.Array:
      return taken(x_BHLK, index_BHCW).reshape(-1, window, 1, x_BHLK.shape[-1])

    def segments(index_BHCW: jax.Array) -> jax.Array:
      segments_BL = jnp.asarray(context.segments)[:, None, :, None]
      every_BHL1 = jnp.broadcast_to(segments_BL, (*q_BHLK.shape[:3], 1))
      return taken(every_BHL1, index_BHCW).reshape(-1, window)

    drops = context.train and self.dropout > 0.0
    engine, request = prepare(
      row(q_BHLK, q_BHCW),
      row(k_BHLK, k_BHCW),
      row(v_BHLK, k_BHCW),
      Causal() if self.causal else Full(),
      segment_ids=None if context.segments is None else (segments(q_BHCW), segments(k_BHCW)),
      positions=(q_BHCW.reshape(-1, window), k_BHCW.reshape(-1, window)),
      dropout=(self.make_rng("dropout"), self.dropout) if drops else None,
      kernel=kernel_of(self),
    )
    return engine(request).reshape(*leading, window, self.head_dim)


def normed(x_BHLK: jax.Array) -> jax.Array:
  """Mean 0 and variance 1 over the features of each token, and so the length √head_dim."""
  x = x_BHLK.astype(jnp.float32)
  x = x - jnp.mean(x, axis=-1, keepdims=True)
  x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + TINY)
  return x.astype(x_BHLK.dtype)


def on_unit_ball(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
  """Fresh centroids: of the length 1, in directions that normed vectors have."""
  return normed(jax.random.normal(key, shape, dtype)) * shape[-1] ** -0.5


def distances(x_BHLK: jax.Array, centroid_HCK: jax.Array) -> jax.Array:
  """Half the squared distance of each normed token, scaled to the length 1, from each centroid.

  Only the centroids are differentiated.

  Returns:
    float32 `[batch, heads, length, clusters]`.
  """
  x_BHLK = jax.lax.stop_gradient(x_BHLK.astype(jnp.float32)) * x_BHLK.shape[-1] ** -0.5
  centroid_HCK = centroid_HCK.astype(jnp.float32)
  square_BHL1 = jnp.sum(x_BHLK * x_BHLK, axis=-1, keepdims=True)
  square_HC = jnp.sum(centroid_HCK * centroid_HCK, axis=-1)
  both_BHLC = jnp.einsum("bhlk,hck->bhlc", x_BHLK, centroid_HCK)
  return 0.5 * (square_BHL1 + square_HC[None, :, None]) - both_BHLC


def members(away_BHLC: jax.Array, window: int, real_BL: jax.Array | None) -> jax.Array:
  """The tokens of each cluster, in the order of the row: int32 `[batch, heads, clusters, window]`.

  They are the nearest ones; padding is taken where there is nothing else.
  """
  near_BHCL = -jax.lax.stop_gradient(jnp.swapaxes(away_BHLC, 2, 3))
  if real_BL is not None:
    near_BHCL = jnp.where(real_BL[:, None, None], near_BHCL, -jnp.inf)
  return jnp.sort(jax.lax.top_k(near_BHCL, window)[1], axis=-1)


def taken(x_BHLK: jax.Array, index_BHCW: jax.Array) -> jax.Array:
  """What each cluster's tokens have: `[batch, heads, clusters, window, features]`."""
  flat_BHN1 = index_BHCW.reshape(*index_BHCW.shape[:2], -1, 1)
  taken_BHNK = jnp.take_along_axis(x_BHLK, flat_BHN1, axis=2)
  return taken_BHNK.reshape(*index_BHCW.shape, x_BHLK.shape[-1])


def scattered(
  y_BHCWK: jax.Array, index_BHCW: jax.Array, length: int
) -> tuple[jax.Array, jax.Array]:
  """What clusters say back at their tokens' places, and which tokens are in none.

  Returns:
    float32 `[batch, length, heads, head_dim]`, a token's mean over its clusters, 0 if it has none;
    and float32 `[batch, length, heads]`, 1 at those that have none.
  """
  batch, heads = index_BHCW.shape[:2]
  y_BHCWK = y_BHCWK.astype(jnp.float32)
  y_BHCWK = jnp.concatenate([y_BHCWK, jnp.ones_like(y_BHCWK[..., :1])], axis=-1)
  row_B11 = jnp.arange(batch)[:, None, None]
  head_1H1 = jnp.arange(heads)[None, :, None]
  sum_BLHK = jnp.zeros((batch, length, heads, y_BHCWK.shape[-1]), jnp.float32)
  flat_BHN = index_BHCW.reshape(batch, heads, -1)
  flat_BHNK = y_BHCWK.reshape(batch, heads, -1, y_BHCWK.shape[-1])
  sum_BLHK = sum_BLHK.at[row_B11, flat_BHN, head_1H1].add(flat_BHNK)
  count_BLH1 = sum_BLHK[..., -1:]
  y_BLHK = sum_BLHK[..., :-1] / jnp.maximum(count_BLH1, 1.0)
  return y_BLHK, (count_BLH1[..., 0] == 0).astype(jnp.float32)


def mean_nearest(away_BHLC: jax.Array, real_BL: jax.Array | None) -> jax.Array:
  """The mean distance to the nearest centroid, which alone is differentiated."""
  return mean_of_tokens(jnp.min(away_BHLC, axis=-1), real_BL)


def mean_of_tokens(x_BHL: jax.Array, real_BL: jax.Array | None) -> jax.Array:
  """The mean over heads and over tokens that are no padding, a float32 scalar."""
  if real_BL is None:
    return jnp.mean(x_BHL)
  count = jnp.maximum(jnp.sum(real_BL), 1) * x_BHL.shape[1]
  return jnp.sum(jnp.where(real_BL[:, None], x_BHL, 0.0)) / count.astype(jnp.float32)


EXAMPLES = [Routing(4, 4, 2, window=6), Routing(2, 8, 3, causal=False, bias=True)]
