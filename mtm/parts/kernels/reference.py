"""Plain softmax under the mask: the definition that every other kernel is tested against."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mtm.parts.kernels._choose import Request, drop, masked_softmax, seen_by


@dataclasses.dataclass(frozen=True)
class Reference:
  """Scores and softmax in float32; builds the `[queries, keys]` matrix."""

  def supports(self, request: Request) -> str | None:
    """Everything is supported."""
    return None

  def cost(self, request: Request) -> float:
    """The unit."""
    return 1.0

  def __call__(self, request: Request) -> jax.Array:
    q, k, v = request.q, request.k, request.v
    batch, queries, heads, width = q.shape
    kv_heads = k.shape[2]
    q_BLGRK = q.reshape(batch, queries, kv_heads, heads // kv_heads, width)
    s_BGRLS = jnp.einsum(
      "blgrk,bsgk->bgrls", q_BLGRK * request.scale, k, preferred_element_type=jnp.float32
    )
    s_BHLS = s_BGRLS.reshape(batch, heads, queries, k.shape[1])
    bias = request.bias_array()
    if bias is not None:
      s_BHLS = s_BHLS + bias.astype(jnp.float32)
    p_BHLS = drop(masked_softmax(s_BHLS, seen_by(request)), request.dropout).astype(v.dtype)
    p_BGRLS = p_BHLS.reshape(s_BGRLS.shape)
    out = jnp.einsum("bgrls,bsgk->blgrk", p_BGRLS, v)
    return out.reshape(batch, queries, heads, v.shape[-1]).astype(q.dtype)


EXAMPLES = [Reference()]
