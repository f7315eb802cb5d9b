"""How a run's state is kept between steps: in which precision, and in whose memory.

A step computes its update in float32, whatever the state is kept in. What is kept in less is
rounded at random, up or down with the odds that make the mean right: to the nearest, a bfloat16
weight would not move under updates of less than 1/256 of it (2010.06192).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mtm.errors import UserError, nearest
from mtm.types import Array

Tree = Any
DTYPES = ("float32", "bfloat16")
HOST = "pinned_host"


@dataclasses.dataclass(frozen=True)
class Memory:
  """What the state of a run takes; the defaults change nothing.

  Attributes:
    parameters: the dtype that parameters are kept in, of `DTYPES`; there is no second copy.
    slots: the dtype of the optimizer's arrays, of `DTYPES`; None: as the optimizer makes them.
    offload: whether the optimizer's arrays rest in the host's memory between steps (ZeRO-Offload,
      2101.06840, whose CPU also computes the update; here the device does).

  Raises:
    UserError: a dtype that is none of `DTYPES`.
  """

  parameters: str = "float32"
  slots: str | None = None
  offload: bool = False

  def __post_init__(self) -> None:
    for name in ("parameters", "slots"):
      dtype = getattr(self, name)
      if dtype not in DTYPES and not (dtype is None and name == "slots"):
        raise UserError(
          f"memory: {name} = {dtype!r} cannot be kept{nearest(str(dtype), DTYPES)}; it is one of"
          f" {', '.join(DTYPES)}"
        )

  def kept(self, params: Tree) -> Tree:
    """Fresh float32 parameters in the dtype that they are kept in."""
    return _cast(params, self.parameters)

  def kept_slots(self, opt_state: Tree) -> Tree:
    """A fresh optimizer state in the dtype that it is kept in; scalars stay as they are."""
    return opt_state if self.slots is None else _cast(opt_state, self.slots)

  def wide(self, tree: Tree) -> Tree:
    """Parameters or gradients in float32."""
    return tree if self.parameters == "float32" else _cast(tree, "float32")

  def fetched(self, opt_state: Tree) -> Tree:
    """The optimizer state on the device, in float32 where it is kept in less."""
    if self.offload:
      opt_state = jax.tree.map(
        lambda x: jax.device_put(x, jax.memory.Space.Device) if x.ndim else x, opt_state
      )
    return opt_state if self.slots is None else _cast(opt_state, "float32")

  def rounded(self, tree: Tree, like: Tree, key: Array) -> Tree:
    """`tree` in the dtypes of `like`, rounded at random where that is less.

    Args:
      tree: new parameters and optimizer state.
      like: the old ones, as they are kept.
      key: of the step.
    """
    leaves, shape = jax.tree.flatten(tree)
    kept = [
      new if new.dtype == old.dtype else randomly(new, jax.random.fold_in(key, index))
      for index, (new, old) in enumerate(zip(leaves, jax.tree.leaves(like), strict=True))
    ]
    return jax.tree.unflatten(shape, kept)

  def shardings(self, slots: Tree, shapes: Tree) -> Tree:
    """The shardings of an optimizer state whose arrays rest where this says.

    Args:
      slots: shardings on the devices.
      shapes: a parallel tree of arrays or `ShapeDtypeStruct`s.
    """
    if not self.offload:
      return slots
    return jax.tree.map(lambda s, x: s.with_memory_kind(HOST) if x.ndim else s, slots, shapes)


def randomly(x: Array, key: Array) -> Array:
  """float32 → bfloat16, up or down at random so that the mean is `x`.

  Random bits are added below the last that bfloat16 has, and what is below is cut off.
  """
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
  raised = bits + jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
  cut = jax.lax.bitcast_convert_type(raised & jnp.uint32(0xFFFF0000), jnp.float32)
  return jnp.where(jnp.isfinite(x), cut, x).astype(jnp.bfloat16)


def _cast(tree: Tree, dtype: str) -> Tree:
  """Real arrays in this dtype; counts, keys and scalars as they are."""

  def one(x: Array) -> Array:
    return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) and x.ndim else x

  return jax.tree.map(one, tree)
