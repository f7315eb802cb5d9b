"""Linformer (2006.04768): attention over a fixed number of sums of the keys."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.errors import UserError
from mtm.parts.attention import kernel_of
from mtm.parts.context import Aux, Context
from mtm.parts.kernels import Kernel, prepare
from mtm.parts.kernels._choose import drop
from mtm.parts.linear import Initializer, declare, fan_in_of
from mtm.parts.mixers._limits import refuse_bias, refuse_cache
from mtm.parts.patterns.full import Full
from mtm.parts.projections import into_heads, out_of_heads

Dropped = tuple[jax.Array, float] | None


class Linformer(nn.Module):
  """Attention whose keys and values are projected along the length, from `length` to `rank`.

  A key is weighted by its position in its document, so that a document says the same wherever it
  stands; padding is left out of the sums. Rows of one document each cost length · rank. Packed rows
  need a projection for each document, and cost what full attention does.

  It has no causal form: each of the sums holds tokens from all of the document.

  Attributes:
    heads: attention heads.
    head_dim: size of a head.
    length: the longest document.
    rank: sums that a query attends to.
    per_head: whether each head has projections along the length of its own.
    shared: whether values are projected along the length as keys are.
    kernel: the attention engine; None: the best one that supports the call.
    bias: whether the projections of embeddings and heads have biases.
    dropout: share of attention probabilities dropped in training.
    weight_init: initialiser of the projections; None is fan-in.
    out_init: of the projection out; None is fan-in.
    length_init: of those along the length; None is fan-in.
  """

  heads: int
  head_dim: int
  length: int
  rank: int
  per_head: bool = False
  shared: bool = False
  kernel: Kernel | str | None = None
  bias: bool = False
  dropout: float = 0.0
  weight_init: Initializer | None = None
  out_init: Initializer | None = None
  length_init: Initializer | None = None

  causal = False

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape.

    Raises:
      UserError: rows are longer than `length`, scores are to have a bias, or it is to decode.
    """
    refuse_bias("Linformer", context.bias)
    refuse_cache("Linformer", "its sums look ahead", context)
    if x_BLD.shape[1] > self.length:
      raise UserError(
        f"Linformer.length = {self.length} and a row is {x_BLD.shape[1]} long: raise it, or shorten"
        " the rows"
      )
    size, bias, init = (self.heads, self.head_dim), self.bias, self.weight_init
    q_BLHK = into_heads(x_BLD, *size, "query", bias=bias, init=init)
    k_BLHK = into_heads(x_BLD, *size, "key", "kv_heads", bias, init)
    v_BLHK = into_heads(x_BLD, *size, "value", "kv_heads", bias, init)
    along_k = self._along("key_length", context)
    along_v = along_k if self.shared else self._along("value_length", context)
    dropped: Dropped = None
    if context.train and self.dropout > 0.0:
      dropped = (self.make_rng("dropout"), self.dropout)
    y_BLHK = self._attend((q_BLHK, k_BLHK, v_BLHK), (along_k, along_v), context, dropped)
    return out_of_heads(y_BLHK, x_BLD.shape[-1], bias, self.out_init), Aux()

  def _along(self, name: str, context: Context) -> jax.Array:
    """What each token weighs in each sum, 0 at padding: `[batch, length, heads or 1, rank]`."""
    init = self.length_init or fan_in_of(1)
    if self.per_head:
      shape, axes = (self.length, self.heads, self.rank), ("abspos_buckets", "heads", "head_dim")
      weight = declare(self, name, init, shape, axes)
    else:
      own = declare(self, name, init, (self.length, self.rank), ("abspos_buckets", "head_dim"))
      weight = own[:, None]
    weight_BLHR = jnp.take(weight, context.positions, axis=0)
    if context.segments is None:
      return weight_BLHR
    return jnp.where((jnp.asarray(context.segments) > 0)[..., None, None], weight_BLHR, 0.0)

  def _attend(
    self,
    qkv: tuple[jax.Array, jax.Array, jax.Array],
    along: tuple[jax.Array, jax.Array],
    context: Context,
    dropped: Dropped,
  ) -> jax.Array:
    """`[batch, length, heads, head_dim]`; 0 at padding."""

    def alone() -> jax.Array:
      q_BLHK, *keys_values = qkv
      k_BRHK, v_BRHK = (
        jnp.einsum("blhr,blhk->brhk", jnp.broadcast_to(w, (*x.shape[:3], self.rank)), x)
        for w, x in zip(_as(along, q_BLHK.dtype), keys_values, strict=True)
      )
      request = prepare(q_BLHK, k_BRHK, v_BRHK, Full(), dropout=dropped, kernel=kernel_of(self))
      return request[0](request[1])

    if context.segments is None:
      return alone()
    segments_BL = jnp.asarray(context.segments)
    real_BL = segments_BL > 0
    last_B1 = jnp.max(segments_BL, axis=1, keepdims=True)
    single = jnp.all((segments_BL == last_B1) | ~real_BL)
    same_BLS = (segments_BL[:, :, None] == segments_BL[:, None]) & real_BL[:, None]
    y_BLHK = jax.lax.cond(single, alone, lambda: by_document(qkv, along, same_BLS, dropped))
    return jnp.where(real_BL[..., None, None], y_BLHK, jnp.zeros((), y_BLHK.dtype))


def by_document(
  qkv: tuple[jax.Array, jax.Array, jax.Array],
  along: tuple[jax.Array, jax.Array],
  same_BLS: jax.Array,
  dropped: Dropped,
) -> jax.Array:
  """Attention to the sums of each token's own document.

  As sums over pairs of tokens: the scores of all keys come first, and their sums after, so that no
  token needs keys of its own.

  Args:
    qkv: each `[batch, length, heads, head_dim]`.
    along: what a key and a value weigh in each sum, `[batch, length, heads or 1, rank]`.
    same_BLS: whether a key is of the query's document.
    dropped: attention probabilities to drop, (PRNG key, rate), or None.

  Returns:
    `[batch, length, heads, head_dim]`.
  """
  q_BLHK, k_BLHK, v_BLHK = qkv
  k_BSHR, v_BSHR = (
    jnp.broadcast_to(x, (*q_BLHK.shape[:3], x.shape[-1])) for x in _as(along, q_BLHK.dtype)
  )
  scaled_BLHK = q_BLHK * q_BLHK.shape[-1] ** -0.5
  s_BHLS = jnp.einsum("blhk,bshk->bhls", scaled_BLHK, k_BLHK, preferred_element_type=jnp.float32)
  s_BHLS = jnp.where(same_BLS[:, None], s_BHLS, 0.0).astype(q_BLHK.dtype)
  s_BHLR = jnp.einsum("bhls,bshr->bhlr", s_BHLS, k_BSHR, preferred_element_type=jnp.float32)
  p_BHLR = drop(jax.nn.softmax(s_BHLR, axis=-1), dropped).astype(v_BLHK.dtype)
  p_BHLS = jnp.einsum("bhlr,bshr->bhls", p_BHLR, v_BSHR)
  p_BHLS = jnp.where(same_BLS[:, None], p_BHLS, jnp.zeros((), p_BHLS.dtype))
  return jnp.einsum("bhls,bshk->blhk", p_BHLS, v_BLHK)


def _as(arrays: tuple[jax.Array, ...], dtype: jnp.dtype) -> tuple[jax.Array, ...]:
  return tuple(x.astype(dtype) for x in arrays)


EXAMPLES = [Linformer(4, 4, length=8, rank=3), Linformer(2, 8, 7, 5, per_head=True, shared=True)]
