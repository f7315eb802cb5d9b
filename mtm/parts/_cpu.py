"""What XLA on CPU has to be told, or is to be spared; measured in benchmarks/LOG.md."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from mtm import axes

# Whether a batched matmul runs on all cores: the matmuls of older releases follow one another.
BATCHES = jax.__version_info__ >= (0, 11)


def alone() -> bool:
  """Whether the program is for one CPU."""
  return axes.is_for("cpu") and axes.alone()


def in_order(x: jax.Array) -> jax.Array:
  """`x`, in a program for one CPU as an array of its own in row-major order.

  XLA there fuses a gather or a transposition with its neighbours and then strides through memory,
  or first copies a transposed array as it was. Of an array that a mesh cuts, an older XLA would
  gather all parts, so that it is left as it is.
  """
  if not alone():
    return x
  return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


def copied(x: jax.Array) -> jax.Array:
  """`x`, in a program for one CPU where it is copied: by vectors.

  LLVM unrolls a loop over a short row that is only copied, such as a head's width, to moves of one
  number each, before it would make vectors of it. A factor of one that it does not know to be one
  keeps the loop, and XLA makes one pass of both.
  """
  return x * jax.lax.optimization_barrier(jnp.ones((), x.dtype)) if alone() else x
