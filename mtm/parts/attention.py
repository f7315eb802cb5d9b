"""Attention: project, position, kernel, project. It knows no pattern or scheme by name."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.errors import UserError
from mtm.parts import cache as kv
from mtm.parts import sparse_cache
from mtm.parts.bias import Bias, of_position
from mtm.parts.context import Aux, Context
from mtm.parts.kernels import Kernel, prepare
from mtm.parts.linear import Initializer
from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns._lifetimes import lifetimes
from mtm.parts.patterns.full import Full
from mtm.parts.positions._base import Position
from mtm.parts.projections import into_heads, out_of_heads

_WORTH = 0.75  # of all slots: with more, writing them in one piece is faster than saving some


class Attention(nn.Module):
  """Self-attention under a pattern.

  Attributes:
    heads: query heads.
    head_dim: size of a head.
    kv_heads: key and value heads, a divisor of `heads`; None: as many as `heads`.
    pattern: who sees whom.
    position: rotates queries and keys, and adds a bias of this layer's own; None for neither.
    kernel: the attention engine or its name; None: the cheapest one that supports the call.
    scale: what scores are multiplied by; None: 1 / √head_dim (T5 has 1).
    bias: whether the projections have biases, or the names of those that have one, of `query`,
      `key`, `value` and `out` (GPT-Neo has `out` alone).
    dropout: share of attention probabilities dropped in training.
    weight_init, query_init, out_init: kernel initialisers; None is fan-in (for queries:
      `weight_init`).
  """

  heads: int
  head_dim: int
  kv_heads: int | None = None
  pattern: Pattern = Full()
  position: Position | None = None
  kernel: Kernel | str | None = None
  scale: float | None = None
  bias: bool | tuple[str, ...] = False
  dropout: float = 0.0
  weight_init: Initializer | None = None
  query_init: Initializer | None = None
  out_init: Initializer | None = None

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape, and the cache with these tokens' keys."""
    q_BLHK = _project(
      self, x_BLD, "query", self.heads, "heads", self.query_init or self.weight_init
    )
    kv_heads = self.kv_heads or self.heads
    k_BSGK = _project(self, x_BLD, "key", kv_heads, "kv_heads", self.weight_init)
    v_BSGK = _project(self, x_BLD, "value", kv_heads, "kv_heads", self.weight_init)
    if self.position is not None:
      q_BLHK, k_BSGK = self.position.rotate(q_BLHK, k_BSGK, context.positions)
    places, cache = None, None
    segments = None if context.segments is None else (context.segments, context.segments)
    labels = {name: (label, label) for name, label in context.labels.items()}
    if context.slots is not None:
      segments = None
      cache, k_all, v_all, k_place = context.cache.store(k_BSGK, v_BSGK, context.slots)
      if not context.slots.fresh:
        k_BSGK, v_BSGK, places = k_all, v_all, (context.positions, k_place)
        labels = _padded(labels, k_BSGK.shape[1])
    elif context.slice is not None:
      part = context.slice
      cache, k_BSGK, v_BSGK = context.cache.put(k_BSGK, v_BSGK, part.start)
      places = part.places(x_BLD.shape[1], k_BSGK.shape[1])
      if segments is not None and part.segments is not None:
        segments = segments[0], part.segments
      labels = {name: (own, part.labels[name]) for name, (own, _) in labels.items()}
    engine, request = prepare(
      q_BLHK,
      k_BSGK,
      v_BSGK,
      self.pattern,
      bias=_total_bias(self.position, context, places, x_BLD.shape[1]),
      segment_ids=segments,
      labels=labels,
      positions=places,
      scale=self.scale,
      dropout=_dropout(self, context),
      kernel=kernel_of(self),
    )
    return _output(self, engine(request), x_BLD.shape[-1]), Aux(cache)

  @nn.nowrap
  def empty_cache(
    self, batch: int, length: int, source_length: int, dtype: Any
  ) -> kv.KeyValue | sparse_cache.SparseKeyValue:
    """A cache for `length` tokens, or for as many as the pattern can still see."""
    del source_length
    heads, lives = self.kv_heads or self.heads, lifetimes(self.pattern, length)
    if lives is None or lives.slots > _WORTH * length:
      return kv.empty(batch, length, heads, self.head_dim, dtype)
    return sparse_cache.empty(batch, lives, heads, self.head_dim, dtype)


class CrossAttention(nn.Module):
  """Attention of a decoder over the encoder's states; fields as in `Attention`.

  With a cache, the source's keys are computed when the source is there and remembered after.
  """

  heads: int
  head_dim: int
  kernel: Kernel | str | None = None
  scale: float | None = None
  bias: bool | tuple[str, ...] = False
  dropout: float = 0.0
  weight_init: Initializer | None = None
  query_init: Initializer | None = None
  out_init: Initializer | None = None

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape, and the cache with the source's keys."""
    source = context.source
    if source is None:
      raise ValueError("cross-attention needs a source: this decoder has no encoder")
    q_BLHK = _project(
      self, x_BLD, "query", self.heads, "heads", self.query_init or self.weight_init
    )
    if source.x is None:
      k_BSHK, v_BSHK = context.cache.rows()
    else:
      k_BSHK = _project(self, source.x, "key", self.heads, "kv_heads", self.weight_init)
      v_BSHK = _project(self, source.x, "value", self.heads, "kv_heads", self.weight_init)
    segments = context.segments
    if segments is None or context.cache is not None:  # one document a row
      segments = jnp.ones(x_BLD.shape[:2], jnp.int32)
    engine, request = prepare(
      q_BLHK,
      k_BSHK,
      v_BSHK,
      Full(),
      segment_ids=(segments, source.segments),
      scale=self.scale,
      dropout=_dropout(self, context),
      kernel=kernel_of(self),
    )
    cache = context.cache  # what it remembers stays as it is
    if cache is not None and source.x is not None:
      cache = kv.KeyValue.of(k_BSHK, v_BSHK)
    return _output(self, engine(request), x_BLD.shape[-1]), Aux(cache)

  @nn.nowrap
  def empty_cache(self, batch: int, length: int, source_length: int, dtype: Any) -> kv.KeyValue:
    """A cache for the keys of `source_length` encoder states."""
    del length
    return kv.empty(batch, source_length, self.heads, self.head_dim, dtype)


def head_width(embed: int, heads: int) -> int:
  """The features of a head, embed / heads. Raises UserError where that is no whole number."""
  if embed % heads:
    divisors = [n for n in range(1, embed + 1) if embed % n == 0]
    near = min(divisors, key=lambda n: abs(n - heads))
    raise UserError(f"heads = {heads} does not divide embed = {embed}; {near} heads would")
  return embed // heads


def kernel_of(part: Any) -> Kernel | str | None:
  """The engine that a module asks for; None, so any, while its parameters are made: that is done in
  float32, which the one asked for need not take."""
  return None if part.is_initializing() else part.kernel


def _project(
  part: Attention | CrossAttention,
  x: jax.Array,
  name: str,
  heads: int,
  axis: str,
  init: Initializer | None,
) -> jax.Array:
  """`[batch, length, embed]` → `[batch, length, heads, head_dim]`."""
  return into_heads(x, heads, part.head_dim, name, axis, _has_bias(part, name), init)


def _output(part: Attention | CrossAttention, x_BLHK: jax.Array, width: int) -> jax.Array:
  """`[batch, length, heads, head_dim]` → `[batch, length, embed]`."""
  return out_of_heads(x_BLHK, width, _has_bias(part, "out"), part.out_init)


def _has_bias(part: Attention | CrossAttention, name: str) -> bool:
  return part.bias if isinstance(part.bias, bool) else name in part.bias


def _dropout(part: Attention | CrossAttention, context: Context):
  if not context.train or part.dropout == 0.0:
    return None
  return part.make_rng("dropout"), part.dropout


def _total_bias(
  position: Position | None,
  context: Context,
  places: tuple[jax.Array, jax.Array] | None,
  length: int,
) -> Bias | None:
  """The stack's shared bias plus this layer's own."""
  own = None if position is None else of_position(position, places, length)
  shared = context.bias
  if shared is not None and places is not None and context.slots is not None:
    if places[1] is not context.slots.positions:  # this layer's cache has slots of its own
      shared = shared.elsewhere()
  if own is None or shared is None:
    return shared if own is None else own
  return shared + own


def _padded(labels: dict[str, tuple[jax.Array, jax.Array]], slots: int):
  """Labels of a prompt at the start of the cache, extended with 0 over the cache's other slots."""

  def pad(label: jax.Array) -> jax.Array:
    return jnp.pad(label, ((0, 0), (0, slots - label.shape[1])))

  return {name: (of_query, pad(of_key)) for name, (of_query, of_key) in labels.items()}
