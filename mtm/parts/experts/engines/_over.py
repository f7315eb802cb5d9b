"""The rows of experts that are over their room: in blocks, as many as there are, expert by expert.

Letters: T tokens, P pairs of a token and an expert, R rows of all blocks, B those of one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mtm.parts.experts.dispatch._base import Plan
from mtm.parts.experts.engines import _rows
from mtm.parts.experts.mlp import Expert

Weights = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class How:
  """What is static: what an expert computes, and the rows of a block."""

  expert: Expert
  block: int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blocks:
  """Who stands in which block.

  Attributes:
    token: `[pairs]`, the token of each pair.
    pair: `[rows]`, one too large where a row is empty; the blocks of an expert follow each other.
    first, blocks: `[experts]`, each expert's first block, and how many it has.
    order: `[experts]`, those that have a block before those that have none.
    count: how many have one.
  """

  token: jax.Array
  pair: jax.Array
  first: jax.Array
  blocks: jax.Array
  order: jax.Array
  count: jax.Array


def over(plan: Plan, room: int, block: int) -> Blocks:
  """The blocks for the pairs of one group whose place is not within `room`."""
  pairs = plan.expert.shape[0]
  size_E = _rows.sizes(plan.expert, plan.place, plan.experts)
  blocks_E = (jnp.maximum(size_E - room, 0) + block - 1) // block
  first_E = jnp.cumsum(blocks_E) - blocks_E
  rows = block * (pairs // block + 1 + min(plan.experts, pairs // (room + 1)))
  is_over_P = (plan.expert < plan.experts) & (plan.place >= room)
  first_P = first_E[jnp.minimum(plan.expert, plan.experts - 1)]
  row_P = jnp.where(is_over_P, first_P * block + plan.place - room, rows)
  _, pair_R, _ = _rows.where(row_P, plan.token, rows, 1)
  order_E = jnp.argsort(blocks_E == 0, stable=True)
  return Blocks(plan.token, pair_R, first_E, blocks_E, order_E, jnp.sum(blocks_E > 0))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def afterwards(
  how: How,
  x_TD: jax.Array,
  weights: Weights,
  weight_P: jax.Array,
  blocks: Blocks,
  key: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array, Weights]:
  """What the pairs in blocks add.

  Args:
    how: what is static.
    x_TD: the tokens.
    weights: of all experts.
    weight_P: the weight of each pair.
    blocks: who stands where.
    key: for the experts' dropout.

  Returns:
    `[tokens, embed]` float32; `[experts]` float32, summed squares, without a gradient; and `x_TD`
    and `weights` for whoever does the rest: so that the gradients of the blocks are added to those
    of the rest in place, and cost nothing where no block is filled.
  """

  def expert(e: jax.Array, said: Any) -> Any:
    weights_of = _of(weights, e)

    def block(b: jax.Array, said: Any) -> Any:
      y_TD, squares_E = said
      pair_B, token_B, x_BD = _block(x_TD, blocks, how, b)
      y_BD = how.expert(x_BD, weights_of, of_one, _key(key, b)).astype(jnp.float32)
      y_BD = jnp.where((pair_B < weight_P.shape[0])[:, None], y_BD, 0)
      y_TD = y_TD.at[token_B].add(_rows.picked(weight_P, pair_B)[:, None] * y_BD)
      return y_TD, squares_E.at[e].add(jnp.sum(jnp.square(y_BD)))

    return _blocks_of(blocks, e, block, said)

  zeros = jnp.zeros(x_TD.shape, jnp.float32), jnp.zeros(blocks.first.shape, jnp.float32)
  return *_experts(blocks, expert, zeros), x_TD, weights


def _forward(
  how: How,
  x_TD: jax.Array,
  weights: Weights,
  weight_P: jax.Array,
  blocks: Blocks,
  key: jax.Array | None,
):
  out = afterwards(how, x_TD, weights, weight_P, blocks, key)
  return out, (x_TD, weights, weight_P, blocks, key)


def _backward(how: How, saved: tuple, d: tuple[jax.Array, jax.Array, jax.Array, Weights]):
  x_TD, weights, weight_P, blocks, key = saved
  d_y_TD, _, d_x_TD, d_weights = d
  # In place where that is exact; else the blocks of an expert are first added up in float32.
  exact = all(w.dtype == jnp.float32 for w in jax.tree.leaves(weights))

  def expert(e: jax.Array, sums: Any) -> Any:
    weights_of = _of(weights, e)
    at = e if exact else jnp.zeros_like(e)

    def block(b: jax.Array, sums: Any) -> Any:
      d_x_TD, d_weight_P, totals = sums
      pair_B, token_B, x_BD = _block(x_TD, blocks, how, b)
      key_b = _key(key, b)
      y_BD, pull = jax.vjp(lambda x, w: how.expert(x, w, of_one, key_b), x_BD, weights_of)
      d_y_BD = d_y_TD[token_B]
      d_weight_B = jnp.sum(y_BD.astype(jnp.float32) * d_y_BD, axis=1)
      d_y_BD = _rows.picked(weight_P, pair_B)[:, None] * d_y_BD
      d_x_BD, d_w = pull(d_y_BD.astype(y_BD.dtype))
      return (
        d_x_TD.at[token_B].add(d_x_BD),
        d_weight_P.at[pair_B].add(d_weight_B, mode="drop"),
        jax.tree.map(lambda total, w: total.at[at].add(w.astype(total.dtype)), totals, d_w),
      )

    d_x_TD, d_weight_P, d_weights = sums
    totals = d_weights if exact else jax.tree.map(_zeros_of_one, d_weights)
    d_x_TD, d_weight_P, totals = _blocks_of(blocks, e, block, (d_x_TD, d_weight_P, totals))
    if not exact:
      totals = jax.tree.map(lambda w, own: w.at[e].add(own[0].astype(w.dtype)), d_weights, totals)
    return d_x_TD, d_weight_P, totals

  sums = d_x_TD, jnp.zeros_like(weight_P), d_weights
  d_x_TD, d_weight_P, d_weights = _experts(blocks, expert, sums)
  return d_x_TD, d_weights, d_weight_P, None, None


afterwards.defvjp(_forward, _backward)


def of_one(rows_BI: jax.Array, layer: Mapping[str, jax.Array]) -> jax.Array:
  """The product for the rows of one expert."""
  y_BO = rows_BI @ layer["kernel"]
  return y_BO + layer["bias"][None, :] if "bias" in layer else y_BO


def _zeros_of_one(w: jax.Array) -> jax.Array:
  return jnp.zeros((1, *w.shape[1:]), jnp.float32)


def _experts(blocks: Blocks, expert: Callable[[jax.Array, Any], Any], carry: Any) -> Any:
  """`expert` of each that has a block, one after another."""
  count = blocks.count.astype(jnp.int32)
  return jax.lax.fori_loop(0, count, lambda i, carry: expert(blocks.order[i], carry), carry)


def _blocks_of(blocks: Blocks, e: jax.Array, block: Callable, carry: Any) -> Any:
  """`block` of each block of an expert, one after another."""
  return jax.lax.fori_loop(blocks.first[e], blocks.first[e] + blocks.blocks[e], block, carry)


def _block(x_TD: jax.Array, blocks: Blocks, how: How, b: jax.Array) -> tuple[jax.Array, ...]:
  """Pairs, one too large where there is none, tokens, and rows, 0 where there is none."""
  pairs = blocks.token.shape[0]
  pair_B = jax.lax.dynamic_slice_in_dim(blocks.pair, b * how.block, how.block)
  token_B = blocks.token[jnp.minimum(pair_B, pairs - 1)]
  x_BD = jnp.where((pair_B < pairs)[:, None], x_TD[token_B], 0)
  return pair_B, token_B, x_BD


def _of(weights: Weights, e: jax.Array) -> Weights:
  return jax.tree.map(lambda w: jax.lax.dynamic_index_in_dim(w, e, keepdims=False), weights)


def _key(key: jax.Array | None, b: jax.Array) -> jax.Array | None:
  return None if key is None else jax.random.fold_in(key, b + 1)
