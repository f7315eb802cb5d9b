"""The pattern seam: a boolean function of a query's and a key's place, and their algebra.

A pattern is a frozen dataclass. A positional one defines `mask`; one that depends on the batch (a
prefix, a segment) defines `visible` too and answers in `mask` with all that it could ever show.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

AnyArray: TypeAlias = jax.Array | np.ndarray
Labels = Mapping[str, tuple[jax.Array, jax.Array]]
EMPTY, PARTIAL, FULL = 0, 1, 2


class Pattern(abc.ABC):
  """Which keys a query sees. Immutable and hashable: a kernel may compile for it.

  Attributes:
    positional: whether `mask` is the whole truth, so that its complement is exact too.
    period: `mask(q + period, k + period) == mask(q, k)` for all places; 0: no such shift is known.
    by_head: a pattern for each query head, of which `mask` is the union; None: all have this one.
  """

  positional: bool = True
  period: int = 0
  by_head: tuple[Pattern, ...] | None = None

  @abc.abstractmethod
  def mask(self, q: AnyArray, k: AnyArray) -> AnyArray:
    """Whether the query at place `q` may see the key at place `k`, for any labels.

    Args:
      q: integer places, `[..., queries, 1]`, numpy or JAX.
      k: integer places, `[..., 1, keys]`.

    Returns:
      bool, broadcastable to `[..., queries, keys]`.
    """

  def visible(self, q: AnyArray, k: AnyArray, labels: Labels) -> AnyArray:
    """Like `mask`, with the batch's labels.

    Args:
      q, k: as in `mask`.
      labels: name → (of the queries `[batch, queries, 1]`, of the keys `[batch, 1, keys]`).
    """
    del labels
    return self.mask(q, k)

  def coarse(self, q_len: int, k_len: int, block: int) -> np.ndarray:
    """What is known of `block_map` without looking at pairs; PARTIAL where nothing is.

    A variant overrides it for speed at long lengths; EMPTY and FULL must be true. Returns int8
    `[ceil(q_len / block), ceil(k_len / block)]`.
    """
    return np.full((-(-q_len // block), -(-k_len // block)), PARTIAL, np.int8)

  def block_map(self, q_len: int, k_len: int, block: int) -> np.ndarray:
    """Which blocks of `block` × `block` places are EMPTY, PARTIAL or FULL under `mask`.

    Only blocks that `coarse` leaves open are looked into, and of those that repeat along the
    diagonal (`period`) one: no `q_len` × `k_len` array is built. A block that may depend on labels
    is PARTIAL. Returns int8 `[ceil(q_len / block), ceil(k_len / block)]`.
    """
    from mtm.parts.patterns._tiles import tiles

    return tiles(self, q_len, k_len, block).map

  def __and__(self, other: Pattern) -> Pattern:
    return And(self, other)

  def __or__(self, other: Pattern) -> Pattern:
    return Or(self, other)

  def __invert__(self) -> Pattern:
    return Not(self)


@dataclasses.dataclass(frozen=True)
class _Pair(Pattern):
  """What holds of two patterns that stand together."""

  a: Pattern
  b: Pattern

  @property
  def positional(self) -> bool:  # type: ignore[override]
    return self.a.positional and self.b.positional

  @property
  def period(self) -> int:  # type: ignore[override]
    return math.lcm(self.a.period, self.b.period)  # 0 if one is 0

  @property
  def by_head(self) -> tuple[Pattern, ...] | None:  # type: ignore[override]
    own, other = self.a.by_head, self.b.by_head
    if own is None and other is None:
      return None
    heads = len(own or other or ())
    pairs = zip(own or (self.a,) * heads, other or (self.b,) * heads, strict=True)
    return tuple(type(self)(a, b) for a, b in pairs)


@dataclasses.dataclass(frozen=True)
class And(_Pair):
  """Seen by both."""

  def mask(self, q, k):
    return self.a.mask(q, k) & self.b.mask(q, k)

  def visible(self, q, k, labels):
    return self.a.visible(q, k, labels) & self.b.visible(q, k, labels)

  def coarse(self, q_len, k_len, block):
    return np.minimum(self.a.coarse(q_len, k_len, block), self.b.coarse(q_len, k_len, block))


@dataclasses.dataclass(frozen=True)
class Or(_Pair):
  """Seen by either."""

  def mask(self, q, k):
    return self.a.mask(q, k) | self.b.mask(q, k)

  def visible(self, q, k, labels):
    return self.a.visible(q, k, labels) | self.b.visible(q, k, labels)

  def coarse(self, q_len, k_len, block):
    return np.maximum(self.a.coarse(q_len, k_len, block), self.b.coarse(q_len, k_len, block))


@dataclasses.dataclass(frozen=True)
class Not(Pattern):
  """Seen by those that `a` hides."""

  a: Pattern

  @property
  def positional(self) -> bool:  # type: ignore[override]
    return self.a.positional

  @property
  def period(self) -> int:  # type: ignore[override]
    return self.a.period

  @property
  def by_head(self) -> tuple[Pattern, ...] | None:  # type: ignore[override]
    heads = self.a.by_head
    return None if heads is None else tuple(Not(pattern) for pattern in heads)

  def mask(self, q, k):
    if self.by_head is not None:  # what any head sees, as ever
      return functools.reduce(operator.or_, (each.mask(q, k) for each in self.by_head))
    if self.a.positional:
      return ~self.a.mask(q, k)
    return (q >= 0) | (k >= 0)  # whatever `a` can show it can hide: nothing is ruled out

  def visible(self, q, k, labels):
    if self.by_head is not None:
      return functools.reduce(operator.or_, (each.visible(q, k, labels) for each in self.by_head))
    return ~self.a.visible(q, k, labels)

  def coarse(self, q_len, k_len, block):
    if self.a.positional and self.by_head is None:
      return (FULL - self.a.coarse(q_len, k_len, block)).astype(np.int8)
    return super().coarse(q_len, k_len, block)


def by_distance(
  q_len: int, k_len: int, block: int, decide: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
  """The `coarse` map of a pattern that depends on key − query only.

  Args:
    q_len, k_len, block: as in `coarse`.
    decide: from the least and the greatest distance in a block to EMPTY, PARTIAL or FULL.
  """
  rows, columns = -(-q_len // block), -(-k_len // block)
  middle = np.arange(-rows + 1, columns) * block
  line = np.asarray(decide(middle - block + 1, middle + block - 1), np.int8)
  return line[np.arange(columns)[None, :] - np.arange(rows)[:, None] + rows - 1]


def by_flag(of_query: np.ndarray, of_key: np.ndarray, block: int) -> np.ndarray:
  """The map of (flag of the query) or (flag of the key): bool `[queries]` and `[keys]`."""

  def any_and_all(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cut = np.arange(0, len(flags), block)
    return np.logical_or.reduceat(flags, cut), np.logical_and.reduceat(flags, cut)

  (any_q, all_q), (any_k, all_k) = any_and_all(of_query), any_and_all(of_key)
  some, every = any_q[:, None] | any_k[None], all_q[:, None] | all_k[None]
  return np.where(every, FULL, np.where(some, PARTIAL, EMPTY)).astype(np.int8)


def look_up(table: np.ndarray, index: AnyArray) -> AnyArray:
  """`table[index]` along the first axis, zero (False) where the index is outside."""
  inside = (index >= 0) & (index < len(table))
  if isinstance(index, jax.Array):
    return jnp.asarray(table)[jnp.where(inside, index, 0)] & inside
  return table[np.where(inside, index, 0)] & inside


def visible(
  pattern: Pattern,
  q: jax.Array,
  k: jax.Array,
  labels: Mapping[str, tuple[jax.Array, jax.Array]] | None = None,
) -> jax.Array:
  """`pattern` between every query and every key.

  Args:
    pattern: the pattern.
    q, k: places, `[queries]` and `[keys]`, or each with a leading batch axis.
    labels: name → (`[batch, queries]`, `[batch, keys]`).

  Returns:
    bool `[queries, keys]`, or `[batch or 1, queries, keys]` where a place or a label has a batch.
  """
  rank = 2 if labels else max(q.ndim, k.ndim)
  q, k = (jnp.expand_dims(x, tuple(range(rank - x.ndim))) for x in (q, k))
  pairs = {n: (a[..., :, None], b[..., None, :]) for n, (a, b) in (labels or {}).items()}
  seen = pattern.visible(q[..., :, None], k[..., None, :], pairs)
  return jnp.broadcast_to(seen, jnp.broadcast_shapes(seen.shape, (q.shape[-1], k.shape[-1])))
