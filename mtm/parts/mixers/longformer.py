"""Longformer's attention (2004.05150): a window for all tokens, and some that see and are seen by
all, with projections of their own."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.errors import UserError
from mtm.parts.context import Aux, Context
from mtm.parts.kernels import Kernel, attend
from mtm.parts.linear import Initializer
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.memory import Memory
from mtm.parts.patterns.window import Window
from mtm.parts.projections import into_heads, out_of_heads

GLOBAL = "global"  # the label of tokens that see and are seen by all


# Letters beyond those of `mtm.axes`: G is the slots of global tokens.


class Few(NamedTuple):
  """The global tokens of each row, in as many slots for every row.

  Attributes:
    place: int32 `[batch, slots]`, where in the row they stand; the length where a slot is empty.
    segment: int32 `[batch, slots]`, their documents; 0 where a slot is empty.
    chosen: bool `[batch, length]`, which tokens they are.
  """

  place: jax.Array
  segment: jax.Array
  chosen: jax.Array

  def of(self, x: jax.Array) -> jax.Array:
    """`[batch, length, ...]` → `[batch, slots, ...]`, 0 where a slot is empty."""
    rows = jnp.arange(x.shape[0])[:, None]
    return x.at[rows, self.place].get(mode="fill", fill_value=0)

  def put(self, x: jax.Array, values: jax.Array) -> jax.Array:
    """`x` `[batch, length, ...]` with `values` `[batch, slots, ...]` in their places."""
    rows = jnp.arange(x.shape[0])[:, None]
    return x.at[rows, self.place].set(values, mode="drop")


def few(told: jax.Array, segments: jax.Array, slots: int) -> Few:
  """The first `slots` of the tokens that are told to be global, padding left out.

  Args:
    told: bool `[batch, length]`.
    segments: int32 `[batch, length]`, 0 at padding.
    slots: at most the length.
  """
  length, told = told.shape[1], told & (segments > 0)
  chosen = told & (jnp.cumsum(told, axis=1) <= slots)
  rank = jnp.where(chosen, length - jnp.arange(length)[None], 0)
  top, place = jax.lax.top_k(rank, slots)
  place = jnp.where(top > 0, place, length).astype(jnp.int32)
  here = jnp.take_along_axis(segments, jnp.minimum(place, length - 1), axis=1)
  return Few(place, jnp.where(top > 0, here, 0), chosen)


class Longformer(nn.Module):
  """Attention within a window and, for global tokens, to and from everywhere.

  Which tokens are global is told in the context's label `global`; there is no cache. All queries
  look at the keys of global tokens, which stand in slots before the row; queries of global tokens
  look at the whole row in a second attention, of which queries, keys and values have projections of
  their own. Cost grows with the length times (window + slots). A packed document sees itself only.

  Metric `left_out`: mean number of global tokens in a row for which there was no slot; they are
  like others.

  Attributes:
    heads: attention heads.
    head_dim: size of a head.
    radius: how many tokens before and after itself a token sees.
    slots: the most global tokens in a row; 0: none.
    first: how many of the first tokens of a document are global where nothing is told.
    kernel, dropout, weight_init, out_init: see `Attention`.
    bias: whether the projections have biases.
  """

  heads: int
  head_dim: int
  radius: int = 256
  slots: int = 64
  first: int = 0
  kernel: Kernel | str | None = None
  bias: bool = False
  dropout: float = 0.0
  weight_init: Initializer | None = None
  out_init: Initializer | None = None

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape. Raises UserError in decoding with a cache, and
    where positions add a bias to the scores."""
    if context.slots is not None:
      raise UserError("Longformer's windows see both ways and have no cache: decode with Attention")
    if context.bias is not None:
      raise UserError("Longformer's attention knows no bias: take positions that embed")
    segments = context.segments
    if segments is None:
      segments = jnp.ones(x_BLD.shape[:2], jnp.int32)
    q_BLHK, k_BLHK, v_BLHK = (self._project(x_BLD, name) for name in ("query", "key", "value"))
    far_k_BLHK, far_v_BLHK = (self._project(x_BLD, f"{name}_global") for name in ("key", "value"))
    told = self._told(context)
    if told is None or not self.slots:
      self._project(x_BLD[:, :1], "query_global")  # declared in any case; XLA drops what is unread
      y_BLHK = self._attend(
        context, q_BLHK, k_BLHK, v_BLHK, Window(self.radius, self.radius), segments, segments
      )
      return out_of_heads(y_BLHK, x_BLD.shape[-1], self.bias, self.out_init), Aux()
    slots = min(self.slots, x_BLD.shape[1])
    found = few(told, segments, slots)
    y_BLHK = self._attend(
      context,
      jnp.pad(q_BLHK, ((0, 0), (slots, 0), (0, 0), (0, 0))),  # so that places are those of keys
      jnp.concatenate([found.of(k_BLHK), k_BLHK], axis=1),
      jnp.concatenate([found.of(v_BLHK), v_BLHK], axis=1),
      Window(self.radius, self.radius) | Memory(slots),
      jnp.pad(segments, ((0, 0), (slots, 0))),
      jnp.concatenate([found.segment, jnp.where(found.chosen, 0, segments)], axis=1),
    )[:, slots:]
    q_BGHK = self._project(found.of(x_BLD), "query_global")
    y_BGHK = self._attend(context, q_BGHK, far_k_BLHK, far_v_BLHK, Full(), found.segment, segments)
    y_BLHK = found.put(y_BLHK, y_BGHK)
    lost = jnp.sum(told & (segments > 0) & ~found.chosen, axis=1)
    metrics = {"left_out": jnp.mean(lost.astype(jnp.float32))}
    return out_of_heads(y_BLHK, x_BLD.shape[-1], self.bias, self.out_init), Aux(metrics=metrics)

  def _told(self, context: Context) -> jax.Array | None:
    """Which tokens are to be global, bool `[batch, length]`; None: none."""
    label = context.labels.get(GLOBAL)
    if label is not None:
      return label > 0
    return context.positions < self.first if self.first else None

  def _project(self, x_BLD: jax.Array, name: str) -> jax.Array:
    return into_heads(x_BLD, self.heads, self.head_dim, name, bias=self.bias, init=self.weight_init)

  def _attend(self, context, q, k, v, pattern, of_q, of_k) -> jax.Array:
    """`attend` with these documents of queries and keys."""
    dropout = None
    if context.train and self.dropout:
      dropout = self.make_rng("dropout"), self.dropout
    kernel = "auto" if self.kernel is None else self.kernel
    return attend(q, k, v, pattern, segment_ids=(of_q, of_k), dropout=dropout, kernel=kernel)


EXAMPLES = [Longformer(4, 4, radius=1), Longformer(2, 8, radius=2, slots=2, first=1, bias=True)]
