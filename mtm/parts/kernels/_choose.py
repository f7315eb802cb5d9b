"""The kernel seam: what every attention engine is given, and which one takes the call."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp

from mtm.discovery import modules
from mtm.errors import UserError
from mtm.parts.dropout import keep_mask
from mtm.parts.patterns._algebra import Pattern, visible
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.segment import SameSegment


@dataclasses.dataclass(frozen=True)
class Request:
  """One attention: everything that a kernel must honour or refuse.

  Attributes:
    q: `[batch, queries, heads, head_dim]`.
    k, v: `[batch, keys, kv_heads, head_dim]`; `heads` is a multiple of `kv_heads`.
    pattern: who sees whom, segments included.
    q_place, k_place: places of queries and keys for the pattern, `[queries]` or `[batch, queries]`.
    labels: per-token facts that the pattern reads, name → (`[batch, queries]`, `[batch, keys]`).
    bias: `[1 or batch, 1 or heads, queries, keys]` added to the scaled scores, or None.
    scale: what the scores are multiplied by.
    dropout: None, or (key, rate): attention probabilities to drop.
    aligned: whether both places are 0, 1, 2, ...: true outside decoding.
  """

  q: jax.Array
  k: jax.Array
  v: jax.Array
  pattern: Pattern
  q_place: jax.Array
  k_place: jax.Array
  labels: Mapping[str, tuple[jax.Array, jax.Array]]
  bias: jax.Array | None
  scale: float
  dropout: tuple[jax.Array, float] | None
  aligned: bool


class Kernel(Protocol):
  """An engine. A module of this package ends with `EXAMPLES`, its kernels.

  Attributes:
    rank: which of several engines that support a request is taken: the highest.
  """

  rank: int

  def supports(self, request: Request) -> str | None:
    """None if this engine honours every part of the request, else the reason why not."""

  def __call__(self, request: Request) -> jax.Array:
    """`[batch, queries, heads, head_dim]` in the dtype of `q`; a row that sees nothing is 0."""


def prepare(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  pattern: Pattern,
  *,
  bias: jax.Array | None = None,
  segment_ids: tuple[jax.Array, jax.Array] | None = None,
  labels: Mapping[str, tuple[jax.Array, jax.Array]] | None = None,
  positions: tuple[jax.Array, jax.Array] | None = None,
  scale: float | None = None,
  dropout: tuple[jax.Array, float] | None = None,
  kernel: Kernel | None = None,
) -> tuple[Kernel, Request]:
  """Softmax attention of `q` over the keys that `pattern` shows: who computes it, and from what.

  `engine, request = prepare(q, k, v, pattern)`, then `engine(request)`.

  Args:
    q: `[batch, queries, heads, head_dim]`.
    k, v: `[batch, keys, kv_heads, head_dim]`; query head h reads key head h // (heads / kv_heads).
    pattern: who sees whom.
    bias: `[1 or batch, 1 or heads, queries, keys]` added to the scaled scores, or None.
    segment_ids: of queries and keys, `[batch, queries]` and `[batch, keys]`; a query sees keys of
      its own segment only, and none of segment 0.
    labels: further facts that `pattern` reads, name → (`[batch, queries]`, `[batch, keys]`).
    positions: places of queries and keys; None: 0, 1, 2, ... on both sides.
    scale: what scores are multiplied by; None: 1 / √head_dim.
    dropout: (PRNG key, rate), or None.
    kernel: the engine; None: the best one that supports the call.

  Returns:
    the engine and the request that it supports.

  Raises:
    UserError: the engine cannot honour an argument, or `heads` is no multiple of `kv_heads`.
  """
  if q.shape[2] % k.shape[2]:
    raise UserError(f"{q.shape[2]} query heads are no multiple of {k.shape[2]} key heads")
  labels = dict(labels or {})
  if segment_ids is not None:
    labels["segment"] = segment_ids
    pattern = pattern & SameSegment()
  places = positions or (jnp.arange(q.shape[1]), jnp.arange(k.shape[1]))
  request = Request(
    q, k, v, pattern, *places, labels, bias,
    q.shape[-1] ** -0.5 if scale is None else scale, dropout, aligned=positions is None,
  )  # fmt: skip
  if kernel is None:
    able = [k for k in _engines() if k.supports(request) is None]
    return max(able, key=lambda k: k.rank), request
  reason = kernel.supports(request)
  if reason is not None:
    raise UserError(f"attention kernel {type(kernel).__name__} cannot run this: {reason}")
  return kernel, request


def _engines() -> list[Kernel]:
  """Every kernel of this package; `reference` supports every request."""
  return [kernel for module in modules(__package__) for kernel in module.EXAMPLES]


def seen_by(request: Request) -> jax.Array | None:
  """Which keys each query sees, bool `[1 or batch, 1, queries, keys]`; None where it is all."""
  if request.pattern == Full():
    return None
  seen = visible(request.pattern, request.q_place, request.k_place, request.labels)
  seen = jnp.expand_dims(seen, -3)  # heads
  return jnp.expand_dims(seen, tuple(range(4 - seen.ndim)))


def masked_softmax(s_BHLS: jax.Array, seen: jax.Array | None) -> jax.Array:
  """Softmax over the visible keys; 0 where a query sees none."""
  if seen is None:
    return jax.nn.softmax(s_BHLS, axis=-1)
  p = jax.nn.softmax(jnp.where(seen, s_BHLS, jnp.finfo(s_BHLS.dtype).min), axis=-1)
  return jnp.where(seen, p, 0.0)


def drop(p: jax.Array, dropout: tuple[jax.Array, float] | None) -> jax.Array:
  """Attention probabilities after dropout, for kernels that hold them."""
  if dropout is None or dropout[1] == 0.0:
    return p
  keep, probability = keep_mask(dropout[0], dropout[1], p.shape)
  return jnp.where(keep, p / probability, jnp.zeros((), p.dtype))
