"""What a step of the block-sparse kernel takes from blocked arrays, and how it puts results back.

Arrays are `[batch, blocks, block, heads, width]`; matmuls want heads before places. XLA on CPU
takes as long to transpose what was gathered as to gather it, and four times as long where places
become the last axis; there one gather does both, head by head, of keys that were turned once for
all steps, by vectors (`_cpu.copied`). Elsewhere, and on a mesh, where an index into heads would
gather all devices' heads, a gather takes all heads and XLA folds the transposition into what
follows.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mtm.parts import _cpu

FEW = 32  # updates that are written out one by one: each takes XLA some 10 ms to compile
_KNOWN: dict[str, Any] = {"mode": "promise_in_bounds"}


def take(x: jax.Array, index: jax.Array, kv_heads: int) -> jax.Array:
  """Blocks, with heads first.

  Args:
    x: `[batch, blocks, block, heads, width]`.
    index: int32 `[at_once, n]`, which blocks.
    kv_heads: how many key heads share the heads; group: heads of each.

  Returns:
    `[batch, kv_heads, at_once, n · group · block, width]`.
  """
  batch, _, block, heads, width = x.shape
  group = heads // kv_heads
  if _cpu.alone():
    head = jnp.arange(heads).reshape(kv_heads, 1, 1, group)
    chosen = jax.vmap(lambda x: x.at[index[..., None], :, head].get(**_KNOWN))(x)
  else:
    chosen = x.at[:, index].get(**_KNOWN)
    chosen = chosen.reshape(*chosen.shape[:4], kv_heads, group, width)
    chosen = jnp.transpose(chosen, (0, 4, 1, 2, 5, 3, 6))
  return _cpu.in_order(_cpu.copied(chosen)).reshape(batch, kv_heads, len(index), -1, width)


def turned(x: jax.Array) -> jax.Array:
  """`x` as `take_turned` wants it: on one CPU `[batch, blocks, heads, width, block]`."""
  return _cpu.in_order(jnp.transpose(x, (0, 1, 3, 4, 2))) if _cpu.alone() else x


def take_turned(x: jax.Array, index: jax.Array, kv_heads: int) -> jax.Array:
  """`take` of what `turned` gave, with the last two axes swapped; as many heads as `kv_heads`."""
  if not _cpu.alone():
    return jnp.swapaxes(take(x, index, kv_heads), 3, 4)
  head = jnp.arange(kv_heads)[:, None, None, None]
  place = jnp.arange(x.shape[3])[:, None]
  chosen = jax.vmap(lambda x: x.at[index[:, None], head, place].get(**_KNOWN))(x)
  return _cpu.in_order(_cpu.copied(chosen)).reshape(*chosen.shape[:4], -1)


def untake(x: jax.Array, block: int) -> jax.Array:
  """`[batch, kv_heads, at_once, width, group · block]` → `[batch, at_once, block, heads,
  width]`."""
  x = jnp.transpose(x.reshape(*x.shape[:4], -1, block), (0, 2, 5, 1, 4, 3))
  return _cpu.in_order(x).reshape(*x.shape[:3], -1, x.shape[-1])


def add(total: jax.Array, index: jax.Array, part: jax.Array) -> jax.Array:
  """Adds to `total` what `take` would have taken from it, of as many heads as there are."""
  batch, _, block, heads, width = total.shape
  part = part.reshape(batch, heads, *index.shape, block, width)
  part = jnp.transpose(part, (0, 2, 3, 4, 1, 5))
  if not _cpu.alone() or index.size > FEW:
    return total.at[:, index].add(part, **_KNOWN)
  # XLA on CPU transposes before it scatters, but where it updates a slice it transposes on the way.
  for row, columns in enumerate(index):
    for n, column in enumerate(columns):
      old = jax.lax.dynamic_slice_in_dim(total, column, 1, axis=1)
      new = old + part[:, row, n, None]
      total = jax.lax.dynamic_update_slice_in_dim(total, new, column, axis=1)
  return total
