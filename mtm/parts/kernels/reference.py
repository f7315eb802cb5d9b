"""Plain softmax under the mask: the definition that every other kernel is tested against."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mtm.parts.kernels._choose import Request, drop
from mtm.parts.patterns._algebra import visible
from mtm.parts.patterns.full import Full


@dataclasses.dataclass(frozen=True)
class Reference:
  """Scores and softmax in float32; builds the `[queries, keys]` matrix."""

  rank: int = 0

  def supports(self, request: Request) -> str | None:
    """Everything is supported."""
    return None

  def __call__(self, request: Request) -> jax.Array:
    q, k, v = request.q, request.k, request.v
    batch, queries, heads, width = q.shape
    kv_heads = k.shape[2]
    q_BLGRK = q.reshape(batch, queries, kv_heads, heads // kv_heads, width)
    s_BGRLS = jnp.einsum(
      "blgrk,bsgk->bgrls", q_BLGRK * request.scale, k, preferred_element_type=jnp.float32
    )
    s_BHLS = s_BGRLS.reshape(batch, heads, queries, k.shape[1])
    if request.bias is not None:
      s_BHLS = s_BHLS + request.bias.astype(jnp.float32)
    p_BHLS = drop(_softmax(s_BHLS, request), request.dropout).astype(v.dtype)
    p_BGRLS = p_BHLS.reshape(s_BGRLS.shape)
    out = jnp.einsum("bgrls,bsgk->blgrk", p_BGRLS, v)
    return out.reshape(batch, queries, heads, v.shape[-1]).astype(q.dtype)


def _softmax(s_BHLS: jax.Array, request: Request) -> jax.Array:
  """Softmax over the visible keys; 0 where a query sees none."""
  if request.pattern == Full():
    return jax.nn.softmax(s_BHLS, axis=-1)
  seen = visible(request.pattern, request.q_place, request.k_place, request.labels)
  seen = jnp.expand_dims(seen, -3)  # heads
  seen = jnp.expand_dims(seen, tuple(range(4 - seen.ndim)))
  low = jnp.finfo(s_BHLS.dtype).min
  p = jax.nn.softmax(jnp.where(seen, s_BHLS, low), axis=-1)
  return jnp.where(seen, p, 0.0)


EXAMPLES = [Reference()]
