"""LongT5's transient-global attention (2112.07916): a token sees its neighbours and the sums
of all blocks of tokens."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.errors import UserError
from mtm.parts.bias import Bias, Scheme
from mtm.parts.context import Aux, Context
from mtm.parts.kernels import Kernel, attend
from mtm.parts.linear import Initializer, declare
from mtm.parts.mixers._limits import refuse_cache
from mtm.parts.norm import RMSNorm
from mtm.parts.patterns.published import longt5_transient_global
from mtm.parts.positions.t5_bias import T5Bias, bucket_of
from mtm.parts.projections import into_heads, out_of_heads
from mtm.parts.stack import NormFactory

# Letters beyond those of `mtm.axes`: G is the summaries of blocks.


class SummaryBias(T5Bias):
  """T5's relative bias between tokens, and a second table for how far blocks are apart.

  Attributes: as in `T5Bias`; `weight_init` is of both tables.
  """

  def setup(self) -> None:
    super().setup()
    self.side_embedding = declare(
      self,
      "side_embedding",
      self.weight_init,
      (self.heads, self.buckets),
      ("heads", "relpos_buckets"),
    )

  def side(self, q_block: jax.Array, k_block: jax.Array) -> jax.Array:
    """Like `bias`, for the numbers of blocks, `[1 or batch, queries]` and `[1 or batch, keys]`."""
    away = k_block[:, None, :] - q_block[:, :, None]
    bucket = bucket_of(away, self.bidirectional, self.buckets, self.max_distance)
    return jnp.moveaxis(jnp.take(self.side_embedding, bucket, axis=1), 0, 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Beside:
  """The rule (see `mtm.parts.bias`) of a row of [summaries, tokens].

  Attributes:
    scheme: of a `SummaryBias`.
    block: `[summaries + length]`, which summary a token's block has, by place; at summaries unread.
      It is float32 as all leaves of a rule are, which have a gradient: here 0.
    summaries: how many there are.
  """

  scheme: Scheme
  block: jax.Array
  summaries: int = dataclasses.field(metadata={"static": True})

  def __call__(self, q_place: jax.Array, k_place: jax.Array) -> jax.Array:
    """See `Rule`."""
    # A sparse engine asks for places behind the row's end too, and reads nothing there.
    q_block = jnp.take(self.block, q_place, mode="clip").astype(jnp.int32)
    params = {"params": self.scheme.params}
    far: Any = self.scheme.position.apply(params, q_block, k_place, method="side")
    near = self.scheme(q_place, k_place)
    return jnp.where((k_place < self.summaries)[:, None, None], far, near)


class Blocks(NamedTuple):
  """The blocks of each row, as many as the longest document can have.

  Attributes:
    of_token: int32 `[batch, length]`, the block of a token; the number of blocks where it has none.
    segment: int32 `[batch, blocks]`, of which document a block is; 0 where there is none.
  """

  of_token: jax.Array
  segment: jax.Array


def cut(positions: jax.Array, segments: jax.Array, size: int) -> Blocks:
  """Cuts each document into blocks by position; tokens behind its last whole block belong to it,
  and to none where there is no whole block.

  A block counts as whole where it has its last token. So it is in the published code, of which
  `positions` count a row's padding too if that stands on the left.

  Args:
    positions: int32 `[batch, length]`.
    segments: int32 `[batch, length]`, 0 at padding.
    size: tokens of a block.
  """
  length, real = segments.shape[1], segments > 0
  count = length // size
  rows = jnp.arange(segments.shape[0])[:, None]
  last = jax.lax.cummax(jnp.where(real, jnp.arange(length)[None], -1), axis=1)
  before = jnp.pad(last, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
  other = jnp.take_along_axis(segments, jnp.maximum(before, 0), axis=1) != segments
  document = jnp.cumsum(real & ((before < 0) | other), axis=1)  # 1, 2, ... along the row
  ends = real & (positions % size == size - 1)
  whole = jnp.zeros((segments.shape[0], length + 1), jnp.int32)
  whole = whole.at[rows, document].add(ends.astype(jnp.int32))
  first = jnp.take_along_axis(jnp.cumsum(whole, axis=1) - whole, document, axis=1)
  own = jnp.take_along_axis(whole, document, axis=1)
  of_token = first + jnp.minimum(positions // size, own - 1)
  of_token = jnp.where(real & (own > 0), jnp.minimum(of_token, count), count)
  number = jnp.where(ends, jnp.cumsum(ends, axis=1) - 1, count)
  segment = jnp.zeros((segments.shape[0], count), jnp.int32)
  return Blocks(of_token, segment.at[rows, number].set(segments, mode="drop"))


class TransientGlobal(nn.Module):
  """Attention to a window and to summaries of all blocks, made anew in each layer.

  A summary is the normed sum of a block's inputs; its key and value come from the projections of
  tokens. Cost grows with the length times (window + summaries). The scores' bias is that of a
  `SummaryBias`, the position scheme of the tower, or none. A packed document sees itself only, and
  where `positions` begin anew in it its blocks are those that it would have alone. No cache.

  Attributes:
    heads: attention heads.
    head_dim: size of a head.
    radius: how many tokens before and after itself a token sees.
    block: tokens of a block.
    norm: makes a norm of the sums, given `name`.
    kernel, scale, dropout, weight_init, query_init, out_init: see `Attention`.
  """

  heads: int
  head_dim: int
  radius: int = 127
  block: int = 16
  norm: NormFactory = RMSNorm
  kernel: Kernel | str | None = None
  scale: float | None = None
  dropout: float = 0.0
  weight_init: Initializer | None = None
  query_init: Initializer | None = None
  out_init: Initializer | None = None

  causal = False

  def __post_init__(self) -> None:
    if self.radius < 0 or self.block < 1:
      raise UserError(
        f"radius = {self.radius} and block = {self.block}: a window has a radius of at least 0, a"
        " block at least 1 token"
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape. Raises UserError in decoding with a cache, and
    for a bias of another scheme."""
    refuse_cache("TransientGlobal", "a summary holds tokens from both sides", context)
    segments = context.segments
    if segments is None:
      segments = jnp.ones(x_BLD.shape[:2], jnp.int32)
    segments = jnp.asarray(segments, jnp.int32)
    blocks = cut(context.positions, segments, self.block)
    summaries = blocks.segment.shape[1]
    s_BGD = self.norm(name="summary_norm")(_summed(x_BLD, blocks)).astype(x_BLD.dtype)
    all_BSD = jnp.concatenate([s_BGD, x_BLD], axis=1)
    q_BLHK = self._project(x_BLD, "query", self.query_init or self.weight_init)
    k_BSHK = self._project(all_BSD, "key", self.weight_init)
    v_BSHK = self._project(all_BSD, "value", self.weight_init)

    def before(x: jax.Array) -> jax.Array:  # queries that see nothing, so that places are aligned
      return jnp.pad(x, [(0, 0), (summaries, 0)] + [(0, 0)] * (x.ndim - 2))

    y_BSHK = self._attend(
      (before(q_BLHK), k_BSHK, v_BSHK),
      (before(segments), jnp.concatenate([blocks.segment, segments], axis=1)),
      before(blocks.of_token.astype(jnp.float32)),
      summaries,
      context,
    )
    return out_of_heads(y_BSHK[:, summaries:], x_BLD.shape[-1], init=self.out_init), Aux()

  def _project(self, x_BLD: jax.Array, name: str, init: Initializer | None) -> jax.Array:
    return into_heads(x_BLD, self.heads, self.head_dim, name, init=init)

  def _attend(
    self,
    qkv: tuple[jax.Array, jax.Array, jax.Array],
    segments: tuple[jax.Array, jax.Array],
    block: jax.Array,
    summaries: int,
    context: Context,
  ) -> jax.Array:
    """`attend` for each row alone: padding decides in which block a token is, and so the bias."""
    scheme, pattern = _scheme(context.bias), longt5_transient_global(self.radius, summaries)
    keys = None
    if context.train and self.dropout:
      keys = jax.random.split(self.make_rng("dropout"), block.shape[0])

    def row(
      qkv: tuple[jax.Array, ...],
      ids: tuple[jax.Array, ...],
      block: jax.Array,
      key: jax.Array | None,
    ) -> jax.Array:
      q, k, v = (x[None] for x in qkv)
      return attend(
        q, k, v, pattern,
        bias=None if scheme is None else Bias(rules=(Beside(scheme, block, summaries),)),
        segment_ids=(ids[0][None], ids[1][None]),
        scale=self.scale,
        dropout=None if key is None else (key, self.dropout),
        kernel="auto" if self.kernel is None else self.kernel,
      )[0]  # fmt: skip

    return jax.vmap(row)(qkv, segments, block, keys)


def _scheme(bias: Bias | None) -> Scheme | None:
  """The tower's `SummaryBias`. Raises UserError where the scores have another bias."""
  if bias is None:
    return None
  rule = bias.rules[0] if bias.array is None and len(bias.rules) == 1 else None
  if not isinstance(rule, Scheme) or not isinstance(rule.position, SummaryBias):
    raise UserError(
      "TransientGlobal has summaries before the row, which the positions' bias does not know: take"
      " SummaryBias as the tower's position, or positions that embed"
    )
  return rule


def _summed(x_BLD: jax.Array, blocks: Blocks) -> jax.Array:
  """The float32 sums over the tokens of each block, `[batch, blocks, embed]`; 0 over none."""
  batch, count = blocks.segment.shape
  total = jnp.zeros((batch, count + 1, x_BLD.shape[-1]), jnp.float32)
  rows = jnp.arange(batch)[:, None]
  return total.at[rows, blocks.of_token].add(x_BLD.astype(jnp.float32))[:, :count]


EXAMPLES = [TransientGlobal(4, 4, radius=1, block=2), TransientGlobal(2, 8, radius=2, block=3)]
