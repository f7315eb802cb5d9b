"""Adding and removing an expert, as DEMix does with domains (2108.05036, §5): on parameter trees.

What a tree's axes are is told by `Model.axes`. The same functions do for anything that is like the
parameters, such as an optimizer's moments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtm.errors import UserError
from mtm.types import Axes, Params

AXIS = "expert"


def experts(params: Params, axes: Axes) -> int:
  """How many experts each of its banks has.

  Raises:
    UserError: there is no bank, or they have different numbers.
  """
  sizes: set[int] = set()
  _at_banks(params, axes, lambda leaf, axis: sizes.add(leaf.shape[axis]))
  if len(sizes) != 1:
    found = " and ".join(str(size) for size in sorted(sizes)) or "no"
    raise UserError(f"the model has banks of {found} experts: it must have those of one size")
  return sizes.pop()


def added(params: Params, axes: Axes, like: Sequence[int] = ()) -> Params:
  """The parameters with one expert more in each bank, behind the others.

  The model to read them has `experts + 1`. Train the new one on its domain with the rest frozen.

  Args:
    params: the model's.
    axes: their logical axes.
    like: the new expert's weights are the mean of those of these experts; one of them: a copy;
      none named: the mean of all.

  Raises:
    UserError: there is no such expert, or routers learn something that would have to grow too.
  """
  count = experts(params, axes)
  chosen = [_known(number, count) for number in like or range(count)]
  _refuse_learned(params)

  def grow(leaf: jax.Array, axis: int) -> jax.Array:
    new = jnp.mean(jnp.take(leaf, jnp.asarray(chosen), axis=axis), axis=axis, keepdims=True)
    return jnp.concatenate([leaf, new.astype(leaf.dtype)], axis=axis)

  return _at_banks(params, axes, grow)


def removed(params: Params, axes: Axes, expert: int) -> Params:
  """The parameters without one expert of each bank; those behind it move up by one.

  Raises:
    UserError: there is no such expert, or no other, or routers learn something that would have to
      shrink too.
  """
  count = experts(params, axes)
  kept = [number for number in range(count) if number != _known(expert, count)]
  if not kept:
    raise UserError("the last expert cannot be removed: a bank needs at least one")
  _refuse_learned(params)
  return _at_banks(params, axes, lambda leaf, axis: jnp.take(leaf, jnp.asarray(kept), axis=axis))


def _at_banks(params: Params, axes: Axes, change: Callable[[jax.Array, int], Any]) -> Any:
  """The tree with `change(leaf, axis of experts)` in place of the leaves that have such an axis."""

  def visit(leaf: jax.Array, names: tuple[str | None, ...]) -> Any:
    return change(leaf, names.index(AXIS)) if AXIS in names else leaf

  return jax.tree.map(visit, params, axes)


def _known(expert: int, count: int) -> int:
  """`expert`, which there is."""
  if not 0 <= expert < count:
    raise UserError(f"there is no expert {expert}: they are numbered 0 to {count - 1}")
  return expert


def _refuse_learned(params: Params) -> None:
  """Raises UserError where a router has parameters."""
  for path, _ in jax.tree_util.tree_leaves_with_path(params):
    names = [str(getattr(key, "key", key)) for key in path]
    if "router" in names:
      raise UserError(
        f"{'/'.join(names)} is learned for the experts that there are: add or remove experts where"
        " a router learns nothing, as routers.Domain and routers.Hash"
      )
