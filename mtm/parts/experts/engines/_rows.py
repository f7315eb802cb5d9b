"""Rows of tokens to experts and back by gathers, in both directions of differentiation.

Letters: T tokens, P pairs of a token and an expert, R rows that experts read, K choices of a token.
An index that is too large by one means nothing: a row of zeros, or no row at all.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from mtm import axes
from mtm.parts import _cpu
from mtm.parts.experts.dispatch._base import Plan

Where = tuple[jax.Array, jax.Array, jax.Array]  # see `where`
FEW = 256  # rows of an expert below which an older XLA is quicker with one matmul after another


def flat(plan: Plan, tokens: int) -> Plan:
  """The plan of all groups as that of one group of groups · tokens, its passes kept.

  The rows of an expert are those of the first group, then those of the second, and so on.
  """
  groups = plan.expert.shape[0]
  size_GE = jax.vmap(functools.partial(sizes, experts=plan.experts))(plan.expert, plan.place)
  before_GE = jnp.cumsum(size_GE, axis=0) - size_GE
  expert_GP = jnp.minimum(plan.expert, plan.experts - 1)
  place_GP = plan.place + jnp.take_along_axis(before_GE, expert_GP, axis=1)
  token_GP = plan.token + tokens * jnp.arange(groups, dtype=plan.token.dtype)[:, None]
  parts = token_GP, plan.expert, plan.weight, place_GP
  token_P, expert_P, weight_P, place_P = (joined(part, plan.choices) for part in parts)
  return Plan(
    token=token_P,
    expert=expert_P,
    weight=weight_P,
    place=place_P,
    dropped=plan.dropped,
    experts=plan.experts,
    capacity=None if plan.capacity is None else plan.capacity * groups,
    choices=plan.choices,
  )


def joined(of_pairs_GP: jax.Array, choices: int | None) -> jax.Array:
  """`[groups, pairs]` → `[groups · pairs]`, passes over all tokens where they were such."""
  groups, pairs = of_pairs_GP.shape
  passes = choices or 1
  return of_pairs_GP.reshape(groups, passes, pairs // passes).swapaxes(0, 1).reshape(-1)


def sizes(expert_P: jax.Array, place_P: jax.Array, experts: int) -> jax.Array:
  """`[experts]` int32: how many rows each has."""
  return jnp.zeros((experts,), jnp.int32).at[expert_P].max(place_P + 1, mode="drop")


def where(row_P: jax.Array, token_P: jax.Array, rows: int, tokens: int) -> Where:
  """Who stands where.

  Args:
    row_P: the row of each pair, `rows` or more where it has none.
    token_P: its token.
    rows: how many there are.
    tokens: likewise.

  Returns:
    `[pairs]` rows; `[rows]` pairs, and `[rows]` tokens, one too large where a row is empty.
  """
  pairs = row_P.shape[0]
  pair_P = jnp.arange(pairs, dtype=jnp.int32)
  row_P = jnp.minimum(row_P, rows)
  pair_R = jnp.full((rows,), pairs, jnp.int32).at[row_P].set(pair_P, mode="drop")
  token_R = jnp.where(pair_R < pairs, token_P[jnp.minimum(pair_R, pairs - 1)], tokens)
  return row_P, pair_R, token_R


def picked(x: jax.Array, index: jax.Array) -> jax.Array:
  """`x[index]`, 0 where the index is too large."""
  there = index < x.shape[0]
  found = x.at[jnp.where(there, index, 0)].get(mode="promise_in_bounds")
  return jnp.where(there.reshape(there.shape + (1,) * (x.ndim - 1)), found, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def take(x_TD: jax.Array, token_P: jax.Array, at: Where, choices: int | None) -> jax.Array:
  """`[rows, embed]`: each row's token, 0 where a row is empty.

  Args:
    x_TD: the tokens.
    token_P: the token of each pair.
    at: see `where`.
    choices: see `Routing`: where it is known, nothing is scattered in the backward pass.
  """
  del token_P, choices
  return picked(x_TD, at[2])


def _take_forward(x_TD: jax.Array, token_P: jax.Array, at: Where, choices: int | None):
  return take(x_TD, token_P, at, choices), (token_P, at[0], x_TD)


def _take_backward(choices: int | None, saved: tuple[jax.Array, ...], d_RD: jax.Array):
  token_P, row_P, x_TD = saved
  d_TD = to_tokens(picked(d_RD, row_P).astype(jnp.float32), token_P, x_TD.shape[0], choices)
  return d_TD.astype(x_TD.dtype), None, None


take.defvjp(_take_forward, _take_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def combine(
  y_RD: jax.Array,
  weight_P: jax.Array,
  token_P: jax.Array,
  at: Where,
  tokens: int,
  choices: int | None,
) -> jax.Array:
  """`[tokens, embed]` float32: the sum over a token's pairs of their weights times their rows."""
  y_PD = picked(y_RD, at[0]).astype(jnp.float32)
  return to_tokens(weight_P[:, None] * y_PD, token_P, tokens, choices)


def _combine_forward(
  y_RD: jax.Array,
  weight_P: jax.Array,
  token_P: jax.Array,
  at: Where,
  tokens: int,
  choices: int | None,
):
  return combine(y_RD, weight_P, token_P, at, tokens, choices), (y_RD, weight_P, at)


def _combine_backward(tokens: int, choices: int | None, saved: tuple, d_TD: jax.Array):
  del tokens, choices
  y_RD, weight_P, (row_P, pair_R, token_R) = saved
  d_RD = picked(d_TD, token_R)
  d_weight_R = jnp.sum(y_RD.astype(jnp.float32) * d_RD, axis=1)
  d_RD = picked(weight_P, pair_R)[:, None] * d_RD
  return d_RD.astype(y_RD.dtype), picked(d_weight_R, row_P), None, None


combine.defvjp(_combine_forward, _combine_backward)


def to_tokens(y_PD: jax.Array, token_P: jax.Array, tokens: int, choices: int | None) -> jax.Array:
  """The sum of each token's pairs: without a scatter where they are passes over all tokens."""
  if choices is None:
    return jnp.zeros((tokens, y_PD.shape[1]), y_PD.dtype).at[token_P].add(y_PD)
  return jnp.sum(y_PD.reshape(choices, tokens, -1), axis=0)


@jax.custom_vjp
def bank(rows_ECI: jax.Array, kernel_EIO: jax.Array) -> jax.Array:
  """Each expert's rows times its kernel, `[experts, rows, out]`, as a CPU does it best."""
  return _each("ci,io->co", rows_ECI, kernel_EIO)


def _bank_forward(rows_ECI: jax.Array, kernel_EIO: jax.Array):
  return bank(rows_ECI, kernel_EIO), (rows_ECI, kernel_EIO)


def _bank_backward(saved: tuple[jax.Array, jax.Array], d_ECO: jax.Array):
  rows_ECI, kernel_EIO = saved
  # Without the barrier XLA computes what led to `d` twice, once in transposed order.
  rows_ECI, d_ECO = jax.lax.optimization_barrier((rows_ECI, d_ECO))
  return _each("co,io->ci", d_ECO, kernel_EIO), _outer(rows_ECI, d_ECO)


bank.defvjp(_bank_forward, _bank_backward)


def _outer(rows_ECI: jax.Array, d_ECO: jax.Array) -> jax.Array:
  """The gradient of the kernels, `[experts, in, out]`. On CPU, XLA contracts the first axis of what
  is wider than the other side slowly, and turning it first costs less."""
  if axes.is_for("cpu") and rows_ECI.shape[2] > d_ECO.shape[2]:
    # The barrier keeps XLA from turning it back where nothing puts it in order.
    rows_EIC = jax.lax.optimization_barrier(_cpu.in_order(rows_ECI.swapaxes(1, 2)))
    return jnp.einsum("eic,eco->eio", rows_EIC, d_ECO)
  return jnp.einsum("eci,eco->eio", rows_ECI, d_ECO)


def _each(product: str, rows: jax.Array, kernels: jax.Array) -> jax.Array:
  """One matmul an expert. An older XLA's batched matmul of few rows packs kernels slowly on CPU."""
  if axes.is_for("cpu") and not _cpu.BATCHES and rows.shape[1] < FEW:
    return jax.lax.map(lambda pair: jnp.einsum(product, *pair), (rows, kernels))
  return jax.vmap(functools.partial(jnp.einsum, product))(rows, kernels)
