"""One ragged matmul over rows sorted by expert: for TPUs (MegaBlocks, 2211.15841)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mtm import axes
from mtm.parts.experts.engines import _rows
from mtm.parts.experts.engines._base import Work
from mtm.parts.experts.mlp import Expert, Product


@dataclasses.dataclass(frozen=True)
class Ragged:
  """`jax.lax.ragged_dot`: no place is empty and no pair is dropped for want of one. Each device
  does its own groups with all experts; on CPUs and GPUs XLA does every expert's work for every
  row."""

  def supports(self, work: Work) -> str | None:
    cut = [name for name in ("expert", "mlp", "embed") if axes.ways(name) > 1]
    if cut:
      return f"the mesh cuts {cut[0]!r}, and a ragged matmul needs all experts whole on each device"
    ways, groups = axes.ways("batch"), work.x.shape[0]
    if groups % ways:
      return f"the mesh cuts the batch into {ways} parts, which do not divide {groups} groups"
    return None

  def cost(self, work: Work) -> float:
    """6 to 53 times a dense layer with 8 and 64 experts, measured on CPU and GPU, where XLA has no
    kernel for it: never the cheapest there."""
    return 1.1 if axes.is_for("tpu") else 1e6

  def __call__(self, work: Work) -> tuple[jax.Array, jax.Array]:
    plan, key = work.plan, work.key
    leaves, tree = jax.tree.flatten(dict(work.weights))
    number_G = jnp.arange(work.x.shape[0], dtype=jnp.int32)
    data = [] if key is None else [jax.random.key_data(key)]
    in_groups = [work.x, plan.token, plan.expert, plan.weight, number_G]

    def one_device(*arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
      x_GND, token_GP, expert_GP, weight_GP, number_G, *rest = arrays
      weights = jax.tree.unflatten(tree, rest[: len(leaves)])
      own = None
      if key is not None:  # each device draws for itself
        own = jax.random.wrap_key_data(rest[-1], impl=jax.random.key_impl(key))
        own = jax.random.fold_in(own, number_G[0])
      pairs = token_GP, expert_GP, weight_GP
      return _sorted(work.expert, weights, x_GND, pairs, (plan.experts, plan.choices), own)

    names: list[tuple[str | None, ...]] = [("batch", *(None,) * (x.ndim - 1)) for x in in_groups]
    names += [(None,) * x.ndim for x in (*leaves, *data)]
    out = ("batch", None, None), ("batch", None)
    y_GND, squares_GE = axes.local(one_device, [*in_groups, *leaves, *data], names, out)
    return y_GND, jnp.sum(squares_GE, axis=0)


def _sorted(
  expert: Expert,
  weights: Mapping[str, Any],
  x_GND: jax.Array,
  pairs: tuple[jax.Array, jax.Array, jax.Array],
  static: tuple[int, int | None],
  key: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
  """Of the groups of one device, `[groups, tokens, embed]`, and `[groups, experts]` squares."""
  (experts, choices), (groups, tokens, embed) = static, x_GND.shape
  all_ = groups * tokens
  number_G1 = jnp.arange(groups, dtype=jnp.int32)[:, None]
  token_P, expert_P, weight_P, group_P = (
    _rows.joined(x, choices)
    for x in (
      pairs[0] + tokens * number_G1,
      *pairs[1:],
      jnp.broadcast_to(number_G1, pairs[0].shape),
    )
  )
  expert_R, order_R = jax.lax.sort_key_val(expert_P, jnp.arange(expert_P.size, dtype=jnp.int32))
  rows = expert_R.size
  row_P = jnp.zeros_like(order_R).at[order_R].set(jnp.arange(rows, dtype=jnp.int32))
  row_P = jnp.where(expert_P < experts, row_P, rows)  # what is not worked on stands last
  at = _rows.where(row_P, token_P, rows, all_)
  sizes_E = jnp.zeros((experts,), jnp.int32).at[expert_P].add(1, mode="drop")
  x_RD = _rows.take(x_GND.reshape(all_, embed), token_P, at, choices)
  y_RD = expert(x_RD, weights, _product(sizes_E, expert_R), key)
  y_TD = _rows.combine(y_RD, weight_P, token_P, at, all_, choices)
  said_RD = jax.lax.stop_gradient(y_RD).astype(jnp.float32)
  squares_R = jnp.where(expert_R < experts, jnp.sum(jnp.square(said_RD), axis=1), 0)
  squares_GE = jnp.zeros((groups, experts), jnp.float32)
  squares_GE = squares_GE.at[group_P[order_R], expert_R].add(squares_R, mode="drop")
  return y_TD.astype(x_GND.dtype).reshape(x_GND.shape), squares_GE


def _product(sizes_E: jax.Array, expert_R: jax.Array) -> Product:
  """Of rows sorted by expert."""

  def product(rows_RI: jax.Array, layer: Mapping[str, jax.Array]) -> jax.Array:
    y_RO = jax.lax.ragged_dot(rows_RI, layer["kernel"], sizes_E)
    return y_RO + _rows.picked(layer["bias"], expert_R) if "bias" in layer else y_RO

  return product


EXAMPLES = [Ragged()]
