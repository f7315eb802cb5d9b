"""The pattern seam: a boolean function of a query's and a key's place, and their algebra.

A pattern is a frozen dataclass. A positional one defines `mask`; one that depends on the batch (a
prefix, a segment) defines `visible` too and answers in `mask` with all that it could ever show.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
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
  """

  positional: bool = True

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

  def block_map(self, q_len: int, k_len: int, block: int) -> np.ndarray:
    """Which blocks of `block` × `block` places are EMPTY, PARTIAL or FULL under `mask`.

    Row by row of blocks, so that no `q_len` × `k_len` array is built. A block that may depend on
    labels is PARTIAL. Returns int8 `[ceil(q_len / block), ceil(k_len / block)]`.
    """
    rows, columns = -(-q_len // block), -(-k_len // block)
    out = np.zeros((rows, columns), np.int8)
    k = np.arange(columns * block)[None, :]
    for row in range(rows):
      q = np.arange(row * block, min((row + 1) * block, q_len))[:, None]
      seen = np.broadcast_to(np.asarray(self.mask(q, k)), (len(q), k.size)) & (k < k_len)
      tiles = seen.reshape(len(q), columns, block)
      full = tiles.all((0, 2)) & self.positional
      out[row] = np.where(full, FULL, np.where(tiles.any((0, 2)), PARTIAL, EMPTY))
    return out

  def __and__(self, other: Pattern) -> Pattern:
    return And(self, other)

  def __or__(self, other: Pattern) -> Pattern:
    return Or(self, other)

  def __invert__(self) -> Pattern:
    return Not(self)


@dataclasses.dataclass(frozen=True)
class And(Pattern):
  """Seen by both."""

  a: Pattern
  b: Pattern

  @property
  def positional(self) -> bool:  # type: ignore[override]
    return self.a.positional and self.b.positional

  def mask(self, q, k):
    return self.a.mask(q, k) & self.b.mask(q, k)

  def visible(self, q, k, labels):
    return self.a.visible(q, k, labels) & self.b.visible(q, k, labels)


@dataclasses.dataclass(frozen=True)
class Or(Pattern):
  """Seen by either."""

  a: Pattern
  b: Pattern

  @property
  def positional(self) -> bool:  # type: ignore[override]
    return self.a.positional and self.b.positional

  def mask(self, q, k):
    return self.a.mask(q, k) | self.b.mask(q, k)

  def visible(self, q, k, labels):
    return self.a.visible(q, k, labels) | self.b.visible(q, k, labels)


@dataclasses.dataclass(frozen=True)
class Not(Pattern):
  """Seen by those that `a` hides."""

  a: Pattern

  @property
  def positional(self) -> bool:  # type: ignore[override]
    return self.a.positional

  def mask(self, q, k):
    if self.a.positional:
      return ~self.a.mask(q, k)
    return (q >= 0) | (k >= 0)  # whatever `a` can show it can hide: nothing is ruled out

  def visible(self, q, k, labels):
    return ~self.a.visible(q, k, labels)


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
