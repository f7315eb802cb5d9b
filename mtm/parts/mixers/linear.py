"""Linear attention (2006.16236): a kernel of features instead of a softmax.

A query's output is the mean of the values it sees, weighted by φ(q) · φ(k). The weight is a
product, so the keys can be summed first: time and memory grow with the length, not with its square,
and decoding keeps one sum of constant size. φ is any map to positive features; with those of
`mtm.parts.mixers.performer` the weights are softmax attention's, estimated.

Letters beyond those of `mtm.axes`: M features of a head, C the tokens of a chunk.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.errors import UserError
from mtm.parts.context import Aux, Context
from mtm.parts.linear import Initializer
from mtm.parts.mixers._limits import refuse_bias, refuse_prefix
from mtm.parts.positions._base import Position
from mtm.parts.projections import into_heads, out_of_heads
from mtm.types import BEYOND

NEVER = -1e30  # the logarithm of nothing; infinity minus infinity would be no number


class Features(NamedTuple):
  """Positive features of vectors: exp(log_scale) · values, both float32.

  What a map would have to exponentiate beyond float32's range goes into the scale.

  Attributes:
    values: `[batch, length, heads, features]`, not negative.
    log_scale: `[batch, length, heads]`.
  """

  values: jax.Array
  log_scale: jax.Array


class FeatureMap(Protocol):
  """What may stand for φ: a function, or a frozen dataclass that can be called."""

  def __call__(self, x_BLHK: jax.Array) -> Features:
    """Features of queries or of keys, `[batch, length, heads, head_dim]`."""


def elu_plus_one(x_BLHK: jax.Array) -> Features:
  """φ(x) = elu(x) + 1, the original's: as many features as a head has."""
  x_BLHK = x_BLHK.astype(jnp.float32)
  return Features(jax.nn.elu(x_BLHK) + 1.0, jnp.zeros(x_BLHK.shape[:3], jnp.float32))


class Memory(NamedTuple):
  """The sum over the keys of a document so far, all that decoding keeps of them.

  Attributes:
    total: φ(k) times the value and a 1, `[batch, heads, features, head_dim + 1]` float32.
    log_scale: what it is yet to be multiplied by, a logarithm, `[batch, heads]` float32.
  """

  total: jax.Array
  log_scale: jax.Array


class LinearAttention(nn.Module):
  """Attention whose weights are products of features.

  A document of a packed row is what it would be alone, and padding is passed over; in a causal
  one, documents of a row must not interleave. All sums are float32.

  Attributes:
    heads: attention heads.
    head_dim: size of a head.
    causal: whether a token sees only those before it, and itself.
    feature_map: φ; see `FeatureMap`.
    position: rotates queries and keys; None: nothing does.
    chunk: tokens that are compared pair by pair; sums stand for all before them.
    bias: whether the projections have biases.
    weight_init, query_init, out_init: kernel initialisers; None is fan-in (for queries:
      `weight_init`).
  """

  heads: int
  head_dim: int
  causal: bool = True
  feature_map: FeatureMap = elu_plus_one
  position: Position | None = None
  chunk: int = 64
  bias: bool = False
  weight_init: Initializer | None = None
  query_init: Initializer | None = None
  out_init: Initializer | None = None

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape, and the `Memory` after these tokens.

    Raises:
      UserError: scores are to have a bias, a causal one is to see a bidirectional prefix, or one
        that is not causal is to decode.
    """
    self._refuse(context)
    size, bias = (self.heads, self.head_dim), self.bias
    query_init = self.query_init or self.weight_init
    q_BLHK = into_heads(x_BLD, *size, "query", bias=bias, init=query_init)
    k_BLHK = into_heads(x_BLD, *size, "key", "kv_heads", bias, self.weight_init)
    v_BLHK = into_heads(x_BLD, *size, "value", "kv_heads", bias, self.weight_init)
    if self.position is not None:
      q_BLHK, k_BLHK = self.position.rotate(q_BLHK, k_BLHK, context.positions)
    document_BL, real_BL = documents(context)
    tokens = gather(self.feature_map, q_BLHK, k_BLHK, v_BLHK, document_BL, real_BL)
    memory = None
    if not self.causal:
      y_BHLK = both_ways(tokens, real_BL, self.chunk)
    else:
      memory = nothing(tokens.k_BHLM, self.head_dim) if context.cache is None else context.cache
      y_BHLK, memory = prefix_sums(tokens, memory, self.chunk)
    y_BLHK = divided(y_BHLK, real_BL).astype(x_BLD.dtype)
    y_BLD = out_of_heads(y_BLHK, x_BLD.shape[-1], bias, self.out_init)
    return y_BLD, Aux(None if context.cache is None else memory)

  def _refuse(self, context: Context) -> None:
    refuse_bias("linear attention", context.bias)
    if self.position is not None:
      place = jnp.zeros((1, 1), jnp.int32)
      refuse_bias("linear attention", self.position.bias(place, place))
    if self.causal:
      refuse_prefix("linear attention", context)
    elif context.slots is not None:
      raise UserError(LOOKS_AHEAD)

  @nn.nowrap
  def empty_cache(self, batch: int, length: int, source_length: int, dtype: Any) -> Memory:
    """The memory of no token; it does not grow with `length`."""
    del length, source_length
    if not self.causal:
      raise UserError(LOOKS_AHEAD)
    head = jax.ShapeDtypeStruct((batch, 1, self.heads, self.head_dim), dtype)
    values = jax.eval_shape(self.feature_map, head).values
    return nothing(jnp.zeros((batch, self.heads, 1, values.shape[-1])), self.head_dim)


LOOKS_AHEAD = (
  "linear attention with causal = False looks ahead and cannot decode: set LinearAttention.causal"
)


class Tokens(NamedTuple):
  """What the sums read of each token, float32, heads before length.

  Attributes:
    q_BHLM, k_BHLM: features of queries and keys, 0 for a key that is padding.
    scale_BHL: logarithms of what the keys' features are yet to be multiplied by.
    v_BHLK: values and a 1, whose sum is the weights' sum: `[batch, heads, length, head_dim + 1]`.
    document_BL: who sees whom: only those with the same number.
  """

  q_BHLM: jax.Array
  k_BHLM: jax.Array
  scale_BHL: jax.Array
  v_BHLK: jax.Array
  document_BL: jax.Array


def gather(
  feature_map: FeatureMap,
  q_BLHK: jax.Array,
  k_BLHK: jax.Array,
  v_BLHK: jax.Array,
  document_BL: jax.Array | None = None,
  real_BL: jax.Array | None = None,
) -> Tokens:
  """The `Tokens` of queries, keys and values, each `[batch, length, heads, head_dim]`."""
  values_BLHM, scale_BLH = feature_map(k_BLHK)
  if real_BL is not None:
    values_BLHM = jnp.where(real_BL[..., None, None], values_BLHM, 0.0)
    scale_BLH = jnp.where(real_BL[..., None], scale_BLH, NEVER)
  if document_BL is None:
    document_BL = jnp.zeros(q_BLHK.shape[:2], jnp.int32)
  v_BLHK = v_BLHK.astype(jnp.float32)
  v_BLHK = jnp.concatenate([v_BLHK, jnp.ones_like(v_BLHK[..., :1])], axis=-1)
  # A query's own scale would be divided away.
  by_head = (feature_map(q_BLHK).values, values_BLHM, scale_BLH, v_BLHK)
  q_BHLM, k_BHLM, scale_BHL, v_BHLK = (jnp.swapaxes(x, 1, 2) for x in by_head)
  return Tokens(q_BHLM, k_BHLM, scale_BHL, v_BHLK, document_BL)


def documents(context: Context) -> tuple[jax.Array | None, jax.Array | None]:
  """The document of each token and which are no padding, `[batch, length]`; None: one, and all.

  Padding has the number of the document before it, so that it ends no document that goes on. With
  a cache it has a position beyond all others, without one the segment 0.
  """
  if context.slots is not None:
    return None, context.positions < BEYOND
  if context.segments is None:
    return None, None
  segments_BL = jnp.asarray(context.segments, jnp.int32)
  place_BL = jnp.where(segments_BL > 0, jnp.arange(segments_BL.shape[1], dtype=jnp.int32)[None], 0)
  last_BL = jax.lax.cummax(place_BL, axis=1)
  return jnp.take_along_axis(segments_BL, last_BL, axis=1), segments_BL > 0


def nothing(k_BHLM: jax.Array, head_dim: int) -> Memory:
  """The memory before any of these keys."""
  batch, heads, _, features = k_BHLM.shape
  total = jnp.zeros((batch, heads, features, head_dim + 1), jnp.float32)
  return Memory(total, jnp.full((batch, heads), NEVER, jnp.float32))


def prefix_sums(
  tokens: Tokens, memory: Memory, chunk: int, itself: bool = True
) -> tuple[jax.Array, Memory]:
  """The weighted sums of the values up to each token, not divided by the weights yet.

  Tokens of a chunk are compared with each other; all before the chunk is in one sum, which is
  carried on, and emptied where a document ends. The backward pass keeps one sum for each chunk.

  Args:
    tokens: of `[batch, length]`; those of a document must follow each other.
    memory: of the tokens before them, which are of the first one's document.
    chunk: tokens compared at once.
    itself: whether a token sees itself.

  Returns:
    `[batch, heads, length, head_dim + 1]`, whose last column is the sum of the weights, and the
    memory after the tokens. Each is relative to a scale that only their ratio is free of.
  """
  length = tokens.q_BHLM.shape[2]
  one = functools.partial(_one_chunk, itself)
  carry = memory, tokens.document_BL[:, 0]
  if length <= chunk:
    (memory, _), y_BHLK = one(carry, tokens)
    return y_BHLK, memory
  scanned = jax.checkpoint(one, prevent_cse=False)
  (memory, _), y_NBHCK = jax.lax.scan(scanned, carry, _cut(tokens, chunk))
  y_BHNCK = jnp.moveaxis(y_NBHCK, 0, 2)
  return y_BHNCK.reshape(*y_BHNCK.shape[:2], -1, y_BHNCK.shape[-1])[:, :, :length], memory


def _cut(tokens: Tokens, chunk: int) -> Tokens:
  """The tokens in chunks, `[chunks, ...]`; what fills the last one weighs nothing."""
  more = -tokens.q_BHLM.shape[2] % chunk

  def cut(x: jax.Array, axis: int) -> jax.Array:
    shape = (*x.shape[:axis], -1, chunk, *x.shape[axis + 1 :])
    return jnp.moveaxis(x.reshape(shape), axis, 0)

  def pad(x: jax.Array, fill: float = 0.0) -> jax.Array:
    widths = ((0, 0), (0, 0), (0, more)) + ((0, 0),) * (x.ndim - 3)
    return cut(jnp.pad(x, widths, constant_values=fill), 2)

  document_BL = jnp.pad(tokens.document_BL, ((0, 0), (0, more)), mode="edge")
  return Tokens(
    pad(tokens.q_BHLM), pad(tokens.k_BHLM), pad(tokens.scale_BHL, NEVER), pad(tokens.v_BHLK),
    cut(document_BL, 1),
  )  # fmt: skip


def _one_chunk(
  itself: bool, carry: tuple[Memory, jax.Array], tokens: Tokens
) -> tuple[tuple[Memory, jax.Array], jax.Array]:
  """The sums of a few tokens; `carry` is the memory before them and its document `[batch]`."""
  memory, before_B = carry
  q_BHCM, k_BHCM, scale_BHC, v_BHCK, document_BC = tokens
  # Any scale will do that keeps the largest weights in range: it is no part of the function.
  top_BH = jnp.maximum(memory.log_scale, jnp.max(scale_BHC, axis=-1))
  top_BH = jax.lax.stop_gradient(top_BH)
  k_BHCM = k_BHCM * jnp.exp(scale_BHC - top_BH[..., None])[..., None]
  kept_BHMK = memory.total * jnp.exp(memory.log_scale - top_BH)[..., None, None]
  size = document_BC.shape[1]
  seen_BCS = document_BC[:, :, None] == document_BC[:, None, :]
  seen_BCS = seen_BCS & jnp.tril(jnp.ones((size, size), bool), 0 if itself else -1)[None]
  weight_BHCS = jnp.einsum("bhcm,bhsm->bhcs", q_BHCM, k_BHCM)
  weight_BHCS = jnp.where(seen_BCS[:, None], weight_BHCS, 0.0)
  goes_on_BC = document_BC == before_B[:, None]
  y_BHCK = weight_BHCS @ v_BHCK
  y_BHCK = y_BHCK + jnp.where(goes_on_BC[:, None, :, None], q_BHCM @ kept_BHMK, 0.0)
  last_B = document_BC[:, -1]
  its_BC = document_BC == last_B[:, None]
  kept_BHMK = jnp.where((last_B == before_B)[:, None, None, None], kept_BHMK, 0.0)
  k_BHCM = jnp.where(its_BC[:, None, :, None], k_BHCM, 0.0)
  total_BHMK = kept_BHMK + jnp.einsum("bhcm,bhck->bhmk", k_BHCM, v_BHCK)
  return (Memory(total_BHMK, top_BH), last_B), y_BHCK


def both_ways(tokens: Tokens, real_BL: jax.Array | None, chunk: int) -> jax.Array:
  """The sums of `prefix_sums` over all of each token's document, before and after it.

  A row of one document takes one sum over it; a packed row takes those up to each token, and those
  after it from the other end.
  """
  top_BH = jax.lax.stop_gradient(jnp.max(tokens.scale_BHL, axis=-1))
  tokens = tokens._replace(scale_BHL=tokens.scale_BHL - top_BH[..., None])
  if real_BL is None:
    return _whole(tokens)
  last_B1 = jnp.max(tokens.document_BL, axis=1, keepdims=True)
  alone = jnp.all((tokens.document_BL == last_B1) | ~real_BL)

  def by_document(tokens: Tokens) -> jax.Array:
    # Both begin with the scale 1, and no key has more: so that their sums can be added.
    begin = nothing(tokens.k_BHLM, tokens.v_BHLK.shape[-1] - 1)
    begin = begin._replace(log_scale=jnp.zeros_like(begin.log_scale))
    q_BHLM, k_BHLM, scale_BHL, v_BHLK = (jnp.flip(x, axis=2) for x in tokens[:4])
    document_BL = jnp.flip(tokens.document_BL, axis=1)
    back = Tokens(q_BHLM, k_BHLM, scale_BHL, v_BHLK, document_BL)
    to_BHLK, _ = prefix_sums(tokens, begin, chunk)
    from_BHLK, _ = prefix_sums(back, begin, chunk, itself=False)
    return to_BHLK + jnp.flip(from_BHLK, axis=2)

  return jax.lax.cond(alone, _whole, by_document, tokens)


def _whole(tokens: Tokens) -> jax.Array:
  """The sums over all tokens of each row."""
  k_BHLM = tokens.k_BHLM * jnp.exp(tokens.scale_BHL)[..., None]
  return tokens.q_BHLM @ jnp.einsum("bhlm,bhlk->bhmk", k_BHLM, tokens.v_BHLK)


def divided(y_BHLK: jax.Array, real_BL: jax.Array | None) -> jax.Array:
  """Sums over weights: `[batch, length, heads, head_dim]`, 0 at padding, as attention has it."""
  y_BHLK, weight_BHL1 = y_BHLK[..., :-1], y_BHLK[..., -1:]
  seen_BHL1 = weight_BHL1 > 0
  if real_BL is not None:
    seen_BHL1 = seen_BHL1 & real_BL[:, None, :, None]
  y_BHLK = jnp.where(seen_BHL1, y_BHLK / jnp.where(seen_BHL1, weight_BHL1, 1.0), 0.0)
  return jnp.swapaxes(y_BHLK, 1, 2)


EXAMPLES = [
  LinearAttention(4, 8),
  LinearAttention(2, 4, chunk=3, bias=True),
  LinearAttention(4, 4, causal=False, chunk=2),
]
