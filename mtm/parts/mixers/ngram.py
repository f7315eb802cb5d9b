"""N-stream self-attention (ProphetNet, 2001.04063, §3.2): beside tokens, guesses at the next."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.axes import constrain
from mtm.errors import UserError
from mtm.parts import cache as kv
from mtm.parts.context import Aux, Context
from mtm.parts.dropout import Dropout
from mtm.parts.kernels._choose import drop, masked_softmax
from mtm.parts.linear import Dense, Embed, Initializer, normal
from mtm.parts.patterns.segment import SameSegment
from mtm.parts.positions.learned import Learned
from mtm.parts.positions.t5_bias import bucket_of
from mtm.parts.stack import Block, NormFactory, Stack


class Ngram(nn.Module):
  """Causal self-attention of a main stream, and of predicting streams that read it.

  The streams lie one after the other along the length. Stream 0, the main one, holds the tokens.
  Stream s > 0 holds at place t what shall become the token at place t + 1, and sees the tokens up
  to place t + 1 − s, the first one of its document always, and itself: never another stream. So
  each stream is what it would be alone, and a cache holds the tokens' keys only.

  A query q scores a key by scale · q · k + w · x, where x is what q was projected from, and w is a
  vector of each head for each bucket of distances (those of T5, 1910.10683). A predicting query
  stands at t + 1, as does its own key.

  Attributes:
    heads: attention heads.
    head_dim: size of a head.
    streams: the main one and those that predict; 1 is causal attention.
    buckets: number of buckets of distances.
    max_distance: distances from here on share the last bucket.
    dropout: share of attention probabilities dropped in training.
    weight_init: initialiser of all projections but `out`.
    out_init: initialiser of `out`.
  """

  heads: int
  head_dim: int
  streams: int = 1
  buckets: int = 32
  max_distance: int = 128
  dropout: float = 0.0
  weight_init: Initializer = normal(0.02)
  out_init: Initializer = normal(0.02)

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, streams · length, embed]` → the same shape, and the cache with the tokens' keys.

    The context has the same length; only what it says of the main stream is read.

    Raises:
      UserError: the tower has a bias, which no stream but the main one could read.
    """
    if context.bias is not None:
      raise UserError("n-stream attention takes no bias: give its tower no relative positions")
    q_BTLHK, k_BTLHK, v_BTLHK = (self._project(x_BLD, name) for name in ("query", "key", "value"))
    q_BTLHK, cache = q_BTLHK * self.head_dim**-0.5, None
    k_BSHK, v_BSHK = k_BTLHK[:, 0], v_BTLHK[:, 0]
    if context.slots is not None:
      cache = kv.write(context.cache, k_BSHK, v_BSHK, context.slots.start)
      k_BSHK, v_BSHK = cache.rows()
    away, seen = self._pairs(context, q_BTLHK.shape[2])
    s_BHTLS, own_BHTL1 = self._by_distance(x_BLD, away)
    s_BHTLS += jnp.einsum("btlhk,bshk->bhtls", q_BTLHK, k_BSHK, preferred_element_type=jnp.float32)
    own_BHTL1 += jnp.einsum(
      "btlhk,btlhk->bhtl", q_BTLHK, k_BTLHK, preferred_element_type=jnp.float32
    )[..., None]
    # One more column, for oneself: a token is among the keys already.
    itself = (jnp.arange(self.streams) > 0)[None, :, None, None]
    seen = jnp.concatenate([seen, jnp.broadcast_to(itself, (*seen.shape[:3], 1))], axis=-1)
    p = masked_softmax(jnp.concatenate([s_BHTLS, own_BHTL1], axis=-1), seen[:, None])
    drops = context.train and self.dropout > 0.0
    p = drop(p, (self.make_rng("dropout"), self.dropout) if drops else None).astype(v_BSHK.dtype)
    y_BTLHK = jnp.einsum("bhtls,bshk->btlhk", p[..., :-1], v_BSHK)
    y_BTLHK += jnp.moveaxis(p[..., -1:], 1, 3) * v_BTLHK
    y_BLHK = y_BTLHK.reshape(*x_BLD.shape[:2], self.heads, self.head_dim)
    y_BLHK = constrain(y_BLHK, "batch", "length", "heads", "head_dim")
    size, axes = (x_BLD.shape[-1],), ("heads", "head_dim", "embed")
    out = Dense(size, axes, contract=2, bias=True, weight_init=self.out_init, name="out")
    return out(y_BLHK), Aux(cache)

  def _project(self, x_BLD: jax.Array, name: str) -> jax.Array:
    """`[batch, streams · length, embed]` → `[batch, streams, length, heads, head_dim]`."""
    size, axes = (self.heads, self.head_dim), ("embed", "heads", "head_dim")
    y_BLHK = Dense(size, axes, bias=True, weight_init=self.weight_init, name=name)(x_BLD)
    y_BLHK = constrain(y_BLHK, "batch", "length", "heads", "head_dim")
    return y_BLHK.reshape(x_BLD.shape[0], self.streams, -1, *size)

  def _pairs(self, context: Context, length: int) -> tuple[jax.Array, jax.Array]:
    """Of each query and each main key: key place − query place, and whether it is seen.

    Both are `[1 or batch, streams, length, keys]`.
    """
    q_BL = k_BS = jnp.arange(length)[None]  # rows: a packed row repeats positions
    first_BS = context.positions[:, :length] == 0
    if context.slots is not None:
      q_BL, k_BS = context.positions[:, :length], context.slots.positions
      first_BS = k_BS == 0
    q, k, first = q_BL[:, None, :, None], k_BS[:, None, None], first_BS[:, None, None]
    stream = jnp.arange(self.streams)[None, :, None, None]
    seen = (k <= q) & (first | (k <= q - jnp.maximum(stream - 1, 0)))
    if context.slots is None and context.segments is not None:
      of = context.segments[:, None, :length]
      seen &= SameSegment().visible(q, k, {"segment": (of[..., None], of[..., None, :])})
    return k - q - jnp.minimum(stream, 1), seen

  def _by_distance(self, x_BLD: jax.Array, away: jax.Array) -> tuple[jax.Array, jax.Array]:
    """w · x: for each main key float32 `[batch, heads, streams, length, keys]`, for oneself
    `[batch, heads, streams, length, 1]`."""
    size, axes = (self.buckets, self.heads), ("embed", "relpos_buckets", "heads")
    dense = Dense(size, axes, bias=True, weight_init=self.weight_init, name="distance")
    by_bucket = dense(x_BLD).reshape(x_BLD.shape[0], self.streams, -1, *size)
    by_bucket = jnp.moveaxis(by_bucket, -1, 1).astype(jnp.float32)
    bucket = bucket_of(away, False, self.buckets, self.max_distance)[:, None]
    return jnp.take_along_axis(by_bucket, bucket, axis=-1, mode="clip"), by_bucket[..., :1]

  @nn.nowrap
  def empty_cache(self, batch: int, length: int, source_length: int, dtype: Any) -> kv.KeyValue:
    """A cache for `length` tokens, whatever the number of streams."""
    del source_length
    return kv.empty(batch, length, self.heads, self.head_dim, dtype)


class NgramStack(nn.Module):
  """A stack whose layers carry predicting streams beside the tokens; a tower takes it for `stack`.

  It adds the positions and norms the embeddings itself, as the streams share both with the tokens.

  Attributes:
    stack: the layers; their mixers are `Ngram`s of 1 + `given` streams.
    position: of the tokens; a predicting stream stands one place further.
    starts: the vectors from which predicting streams start, that of the next token first.
    given: how many of them run. They do not see each other: one gives the next token's logits
      whatever the others do.
    norm: makes the norm of the embeddings, given `name`.
    dropout: share of the embeddings dropped in training.
  """

  stack: Stack
  position: Learned
  starts: Embed
  given: int
  norm: NormFactory
  dropout: float = 0.0

  @property
  def period(self) -> tuple[Block, ...]:
    """The blocks of one repetition."""
    return self.stack.period

  @nn.compact
  def __call__(
    self, x_BLD: jax.Array, context: Context, cache: Any = None
  ) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` tokens → `[batch, given · length, embed]` predicting streams."""
    length, streams = x_BLD.shape[1], 1 + self.given
    starts_LD = self.starts(jnp.repeat(jnp.arange(self.given), length)).astype(x_BLD.dtype)
    starts_BLD = jnp.broadcast_to(starts_LD[None], (x_BLD.shape[0], *starts_LD.shape))
    facts = (context.positions, context.segments, context.labels)
    places, segments, labels = jax.tree.map(lambda x: jnp.tile(x, (1, streams)), facts)
    positions = places + jnp.minimum(jnp.arange(streams * length) // length, 1)[None]
    x_BLD = self.position.embed(jnp.concatenate([x_BLD, starts_BLD], axis=1), positions)
    x_BLD = self.norm(name="embed_norm")(x_BLD)
    x_BLD = Dropout(self.dropout)(x_BLD, context.train)
    x_BLD = constrain(x_BLD, "batch", "length", "embed")
    around = dataclasses.replace(context, positions=positions, segments=segments, labels=labels)
    x_BLD, aux = self.stack(x_BLD, around, cache)
    return x_BLD[:, length:], aux

  @nn.nowrap
  def prepare(self, params: Any) -> Any:
    """See `Model.prepare`."""
    return {**params, "stack": self.stack.prepare(params["stack"])}

  @nn.nowrap
  def empty_cache(self, batch: int, length: int, source_length: int, dtype: Any) -> tuple[Any, ...]:
    """See `Stack.empty_cache`."""
    return self.stack.empty_cache(batch, length, source_length, dtype)


EXAMPLES = [Ngram(4, 4), Ngram(2, 8, buckets=6, max_distance=5)]
