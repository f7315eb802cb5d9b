"""Softmax attention with a backward pass of its own: what training takes where no other is faster.

It computes what `reference` does, in an order that matmul libraries like: heads stand before
lengths once, no `[queries, keys]` array is transposed, and the backward pass uses

  dS = P ∘ (dP − rowsum(dO ∘ O))

(FlashAttention, 2205.14135, appendix B.2), so that neither the softmax nor its sum is run again.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from mtm.parts.dropout import keep_mask
from mtm.parts.kernels._choose import Request, masked_softmax, seen_by

_BATCH = ((0, 1), (0, 1))  # batch and head


@dataclasses.dataclass(frozen=True)
class Dense:
  """Scores and softmax in float32; builds the `[queries, keys]` matrix, and keeps it for the
  backward pass, of which it has one derivative only."""

  def supports(self, request: Request) -> str | None:
    """None outside decoding: for a few queries against a cache keys would be transposed."""
    return None if request.aligned else "queries and keys must stand at 0, 1, 2, ..."

  def cost(self, request: Request) -> float:
    """Measured in benchmarks/train_step.py."""
    return 0.9

  def __call__(self, request: Request) -> jax.Array:
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (request.q * request.scale, request.k, request.v))
    batch, heads, queries, width = q.shape
    kv_heads, keys = k.shape[1:3]
    q_BGNK = q.reshape(batch, kv_heads, heads // kv_heads * queries, width)
    keep, probability = None, 1.0
    if request.dropout is not None and request.dropout[1] != 0.0:
      keep, probability = keep_mask(*request.dropout, (batch, heads, queries, keys))
    out = _attend(q_BGNK, k, v, request.bias_array(), seen_by(request), keep, probability)
    return jnp.swapaxes(out.reshape(batch, heads, queries, v.shape[-1]), 1, 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  bias: jax.Array | None,
  seen: jax.Array | None,
  keep: jax.Array | None,
  probability: float,
) -> jax.Array:
  """Attention with heads first.

  Args:
    q: `[batch, kv_heads, group · queries, head_dim]`, scaled.
    k, v: `[batch, kv_heads, keys, head_dim]`.
    bias: `[1 or batch, 1 or heads, queries, keys]`, or None.
    seen: bool, `[1 or batch, 1, queries, keys]`, or None where all is seen.
    keep: bool `[batch, heads, queries, keys]`, what dropout keeps with `probability`; None: all.
    probability: what kept probabilities are divided by.

  Returns:
    the shape of `q`.
  """
  return _forward(q, k, v, bias, seen, keep, probability)[0]


def _forward(q, k, v, bias, seen, keep, probability):
  s = _dot(q, k, 3, 3)
  if bias is not None or seen is not None or keep is not None:
    s = s.reshape(_by_head(s, bias, seen, keep))
  if bias is not None:
    s = s + bias.astype(jnp.float32)
  p = masked_softmax(s, seen)
  out = _dot(_dropped(p, keep, probability).reshape(*q.shape[:3], -1).astype(v.dtype), v, 3, 2)
  out = out.astype(q.dtype)
  return out, (q, k, v, bias, p.astype(q.dtype), keep, out)


def _backward(probability, saved, g):
  q, k, v, bias, p, keep, out = saved
  shared = q.shape[:3]
  d_p = _dot(g, v, 3, 3).reshape(p.shape)
  total = jnp.sum(g.astype(jnp.float32) * out.astype(jnp.float32), axis=-1).reshape(*p.shape[:3], 1)
  d_s = p.astype(jnp.float32) * (_dropped(d_p, keep, probability) - total)
  d_bias = None if bias is None else _like(d_s, bias)
  d_s = d_s.reshape(*shared, -1).astype(q.dtype)
  p = _dropped(p, keep, probability).reshape(*shared, -1).astype(q.dtype)
  d_q, d_k, d_v = _dot(d_s, k, 3, 2), _dot(d_s, q, 2, 2), _dot(p, g, 2, 2)
  return d_q.astype(q.dtype), d_k.astype(k.dtype), d_v.astype(v.dtype), d_bias, None, None


_attend.defvjp(_forward, _backward)


def _dot(a: jax.Array, b: jax.Array, of_a: int, of_b: int) -> jax.Array:
  """Float32 sums over axis `of_a` of `a` and `of_b` of `b`, for each example and head."""
  contracted = ((of_a,), (of_b,))
  return jax.lax.dot_general(a, b, (contracted, _BATCH), preferred_element_type=jnp.float32)


def _by_head(s: jax.Array, *others: Any) -> tuple[int, ...]:
  """`[batch, heads, queries, keys]`, where scores `[batch, kv_heads, group · queries, keys]` meet
  arrays of which the last axes are queries and keys."""
  queries = next(x.shape[-2] for x in others if x is not None)
  return (s.shape[0], s.shape[1] * s.shape[2] // queries, queries, s.shape[3])


def _dropped(p: jax.Array, keep: jax.Array | None, probability: float) -> jax.Array:
  """`p` where it is kept, scaled to keep the mean."""
  return p if keep is None else jnp.where(keep, p / probability, jnp.zeros((), p.dtype))


def _like(gradient: jax.Array, x: jax.Array) -> jax.Array:
  """Summed over the axes along which `x` was broadcast."""
  axes = tuple(i for i, size in enumerate(x.shape) if size == 1)
  return jnp.sum(gradient, axis=axes, keepdims=True).astype(x.dtype)


EXAMPLES = [Dense()]
