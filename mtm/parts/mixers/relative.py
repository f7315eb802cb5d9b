"""Relative attention (Transformer-XL, 1901.02860), with XLNet's segments (1906.08237, §2.5)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.axes import constrain
from mtm.errors import UserError
from mtm.parts.attention import kernel_of
from mtm.parts.bias import Bias
from mtm.parts.context import Aux, Context
from mtm.parts.dropout import Dropout
from mtm.parts.kernels import Kernel, prepare
from mtm.parts.linear import Dense, Initializer, declare, normal
from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns.full import Full


class Relative(nn.Module):
  """Self-attention whose scores are sums over what the key says, how far it is, and whose it is.

  A query q at place i scores a key k at place j with

    scale · ((q + c) · k + (q + p) · R(i − j) + (q + s) · e)

  where R projects a sinusoidal encoding of the distance; c, p and s are a head's own vectors; and e
  is a head's vector for two tokens of one type or for two of different types. The last term stands
  only where the batch tells token types, in the context's label `token_types`. Places are row
  indices, so that a packed document gets what it would get alone. There is no cache.

  Attributes:
    heads: attention heads.
    head_dim: size of a head.
    pattern: who sees whom; with `Causal` it is Transformer-XL's attention without a memory.
    kernel: the attention engine; None: the best one that supports the call.
    token_types: whether there are s and e.
    base: the encodings' wavelengths go from 2π to 2π · base.
    dropout: share of attention probabilities dropped in training, and of the encodings: one draw
      for a layer and all of its rows.
    weight_init: initialiser of all projections but `out`, and of the vectors.
    out_init: initialiser of `out`.
  """

  heads: int
  head_dim: int
  pattern: Pattern = Full()
  kernel: Kernel | str | None = None
  token_types: bool = True
  base: float = 10_000.0
  dropout: float = 0.0
  weight_init: Initializer = normal(0.02)
  out_init: Initializer = normal(0.02)

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape. Raises UserError in decoding with a cache."""
    if context.slots is not None:
      raise UserError("relative attention has no cache: it cannot decode")
    width, drops = x_BLD.shape[-1], context.train and self.dropout > 0.0
    q_BLHK = self._project(x_BLD, "query", "heads")
    bias = self._by_distance(q_BLHK, width, context.train)
    by_type = self._by_type(q_BLHK, context.labels.get("token_types"))
    bias = self.head_dim**-0.5 * (bias if by_type is None else bias + by_type)
    engine, request = prepare(
      q_BLHK + self._vector("content_bias", q_BLHK.dtype),
      self._project(x_BLD, "key", "kv_heads"),
      self._project(x_BLD, "value", "kv_heads"),
      self.pattern,
      bias=Bias(bias) if context.bias is None else Bias(bias) + context.bias,
      segment_ids=None if context.segments is None else (context.segments, context.segments),
      labels={name: (label, label) for name, label in context.labels.items()},
      dropout=(self.make_rng("dropout"), self.dropout) if drops else None,
      kernel=kernel_of(self),
    )
    y_BLHK = constrain(engine(request), "batch", "length", "heads", "head_dim")
    axes = ("heads", "head_dim", "embed")
    out = Dense((width,), axes, contract=2, weight_init=self.out_init, name="out")
    return out(y_BLHK), Aux()

  def _by_distance(self, q_BLHK: jax.Array, width: int, train: bool) -> jax.Array:
    """(q + p) · R(i − j): float32 `[batch, heads, queries, keys]`."""
    length = q_BLHK.shape[1]
    # From `length` down, one more than there are distances: `_by_place` is then a slice.
    distance = length - jnp.arange(2 * length)
    waves_MD = encodings(distance, width, self.base).astype(q_BLHK.dtype)
    waves_MD = Dropout(self.dropout, name="encoding_dropout")(waves_MD, train)
    axes = ("embed", "kv_heads", "head_dim")
    dense = Dense((self.heads, self.head_dim), axes, weight_init=self.weight_init, name="distance")
    q_BLHK = q_BLHK + self._vector("distance_bias", q_BLHK.dtype)
    return _by_place(
      jnp.einsum("blhk,mhk->bhlm", q_BLHK, dense(waves_MD), preferred_element_type=jnp.float32)
    )

  def _by_type(self, q_BLHK: jax.Array, types_BL: jax.Array | None) -> jax.Array | None:
    """(q + s) · e: float32 `[batch, heads, queries, keys]`, or None where there are no types."""
    if not self.token_types:
      return None
    s_HK = self._vector("type_bias", q_BLHK.dtype)
    shape, axes = (2, self.heads, self.head_dim), ("token_types", "heads", "head_dim")
    e_2HK = declare(self, "type_embedding", self.weight_init, shape, axes).astype(q_BLHK.dtype)
    if types_BL is None:
      return None
    both_BHL2 = jnp.einsum(
      "blhk,ehk->bhle", q_BLHK + s_HK, e_2HK, preferred_element_type=jnp.float32
    )
    same_B1LS = (types_BL[:, :, None] == types_BL[:, None, :])[:, None]
    return jnp.where(same_B1LS, both_BHL2[..., :1], both_BHL2[..., 1:])

  def _project(self, x_BLD: jax.Array, name: str, axis: str) -> jax.Array:
    """`[batch, length, embed]` → `[batch, length, heads, head_dim]`."""
    size, axes = (self.heads, self.head_dim), ("embed", axis, "head_dim")
    y_BLHK = Dense(size, axes, weight_init=self.weight_init, name=name)(x_BLD)
    return constrain(y_BLHK, "batch", "length", axis, "head_dim")

  def _vector(self, name: str, dtype: jnp.dtype) -> jax.Array:
    """A vector of each head, `[1, 1, heads, head_dim]`, which is added to its queries."""
    shape, axes = (self.heads, self.head_dim), ("heads", "head_dim")
    return declare(self, name, self.weight_init, shape, axes).astype(dtype)[None, None]


def encodings(distance_M: jax.Array, width: int, base: float) -> jax.Array:
  """Sines, then cosines of each distance: `[distances]` → float32 `[distances, width]`."""
  frequency = base ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
  angle = distance_M.astype(jnp.float32)[:, None] * frequency[None]
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)[:, :width]


def _by_place(s_BHLM: jax.Array) -> jax.Array:
  """Scores by distance, length, length − 1, ..., 1 − length, as scores by key.

  Query i finds key j, which is at distance i − j, in column j − i + length, so at place
  length + i (2 length − 1) + j of the joined rows: a slice cut into shorter rows, without a gather.

  Args:
    s_BHLM: `[batch, heads, length, 2 · length]`.

  Returns:
    `[batch, heads, length, length]`.
  """
  length = s_BHLM.shape[2]
  joined = s_BHLM.reshape(*s_BHLM.shape[:2], 2 * length**2)[..., length:]
  return joined.reshape(*s_BHLM.shape[:3], 2 * length - 1)[..., :length]


EXAMPLES = [Relative(4, 4), Relative(2, 8, token_types=False)]
