"""What a layer may know besides its input, and what it may say besides its output."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtm.parts.bias import Bias


class Aux(NamedTuple):
  """What a mixer or channel returns beside `x`.

  Attributes:
    cache: its state after these tokens; None outside decoding.
    losses: auxiliary losses by name, float32 scalars, weighted, means over tokens.
    metrics: figures to log by name, float32.
  """

  cache: Any = None
  losses: Mapping[str, jax.Array] = {}
  metrics: Mapping[str, jax.Array] = {}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Source:
  """What cross-attention looks at: encoder states `x` `[batch, source_length, embed]` and their
  segment ids `[batch, source_length]`, 0 at padding. `x` is None when the cache holds its keys."""

  x: jax.Array | None
  segments: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
  """Where in the cache the tokens go, and what stands there, the same for every layer.

  Attributes:
    start: the slot of the first token, an int32 scalar, or one a row, `[batch]`; the others follow.
    positions: `[1 or batch, slots]` int32, the position of each slot's token once it is written.
    fresh: whether the tokens are known to be the first of their sequences, at positions 0, 1, 2
      and so on, with padding behind them: they then see each other as without a cache.
  """

  start: jax.Array
  positions: jax.Array
  fresh: bool = dataclasses.field(default=False, metadata={"static": True})

  def own(self, length: int) -> jax.Array:
    """The positions of the `length` tokens that go there, `[1 or batch, length]`."""
    if not self.start.ndim:
      return jax.lax.dynamic_slice_in_dim(self.positions, self.start, length, axis=1)
    places = self.start[:, None] + jnp.arange(length, dtype=self.start.dtype)[None]
    return jnp.take_along_axis(self.positions, places, axis=1, mode="clip")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slice:
  """Which part of their sequences the tokens are, where earlier parts have been here and left their
  keys in the layer's cache: what keys are told by, as the context's own fields tell of queries.

  Attributes:
    start: the place of the first token, an int32 scalar; the others follow.
    segments: `[batch, whole length]`, as in `Context`, or None.
    labels: the same of the context's labels, by name.
  """

  start: jax.Array
  segments: jax.Array | None = None
  labels: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)

  def places(self, queries: int, keys: int) -> tuple[jax.Array, jax.Array]:
    """Of this many tokens and of all keys, `[1, queries]` and `[1, keys]` int32."""
    of_query, of_key = (jnp.arange(n, dtype=jnp.int32)[None] for n in (queries, keys))
    return self.start + of_query, of_key


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
  """Facts about the tokens of a batch, the same for every layer but for `cache`.

  Attributes:
    positions: `[batch, length]` int32, the position of each token in its segment.
    segments: `[batch, length]` int32 segment ids, 0 at padding; None: every token sees every other.
    labels: further per-token facts that patterns read, by name, each `[batch, length]`.
    facts: further per-token facts that routers of experts read, by name, each `[batch, length]`.
    bias: what is added to the scores of every layer, or None.
    source: what cross-attention looks at, or None.
    cache: this layer's cache, or None outside decoding and slices.
    slots: the places of the cache, or None outside decoding.
    slice: where the tokens stand if they are a part of their sequences, or None: they are whole.
    train: whether dropout is on.
  """

  positions: jax.Array
  segments: jax.Array | None = None
  labels: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
  facts: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
  bias: Bias | None = None
  source: Source | None = None
  cache: Any = None
  slots: Slots | None = None
  slice: Slice | None = None
  train: bool = dataclasses.field(default=False, metadata={"static": True})

  def with_cache(self, cache: Any) -> Context:
    """The same context for a layer with this cache."""
    return dataclasses.replace(self, cache=cache)
