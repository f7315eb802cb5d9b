"""The projections around attention and its likes: embeddings → heads, and heads → embeddings."""

from __future__ import annotations

import jax

from mtm.axes import constrain
from mtm.parts.linear import Dense, Initializer
from mtm.parts.remat import named


def into_heads(
  x: jax.Array,
  heads: int,
  head_dim: int,
  name: str,
  axis: str = "heads",
  bias: bool = False,
  init: Initializer | None = None,
) -> jax.Array:
  """`[batch, length, embed]` → `[batch, length, heads, head_dim]`, by a dense layer of the caller.

  Args:
    x: the embeddings.
    heads: number of heads.
    head_dim: size of a head.
    name: of the layer in the part.
    axis: logical name of the heads, `heads` or `kv_heads`.
    bias: whether it has one.
    init: kernel initialiser; None is fan-in.
  """
  axes = ("embed", axis, "head_dim")
  dense = Dense((heads, head_dim), axes, bias=bias, weight_init=init, name=name)
  x_BLHK = constrain(dense(x), "batch", "length", axis, "head_dim")
  return named(x_BLHK, name.removeprefix("global_"))


def out_of_heads(
  x_BLHK: jax.Array, width: int, bias: bool = False, init: Initializer | None = None
) -> jax.Array:
  """`[batch, length, heads, head_dim]` → `[batch, length, width]`, by the caller's layer `out`."""
  x_BLHK = named(constrain(x_BLHK, "batch", "length", "heads", "head_dim"), "attended")
  axes = ("heads", "head_dim", "embed")
  return Dense((width,), axes, contract=2, bias=bias, weight_init=init, name="out")(x_BLHK)
