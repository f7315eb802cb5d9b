"""Loss scaling: none for float32 and bfloat16, dynamic for float16 (1710.03740).

A float16 gradient below 6e-8 is zero. The loss is therefore multiplied by a scale before the
backward pass and the gradient divided by it after; the scale is as large as overflow allows.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mtm.errors import UserError
from mtm.types import Array

LARGEST = 2.0**24  # beyond it a growing scale gains nothing and ends in inf, which halves to inf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NoScale:
  """Leaves loss and gradients alone. A pytree without leaves."""

  dynamic: ClassVar[bool] = False

  def scale(self, loss: Array) -> Array:
    """The loss to differentiate."""
    return loss

  def unscale(self, grads: Any) -> Any:
    """The gradients of the unscaled loss."""
    return grads

  def update(self, finite: Array) -> NoScale:
    """The scale of the next step."""
    del finite
    return self


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossScale:
  """Doubles after `period` finite steps in a row, halves on overflow; between 1 and 2**24.

  Attributes:
    value: the scale, a float32 scalar; a power of two, so that scaling rounds nothing. Any other
      mends itself, since overflow halves it.
    finite_steps: finite steps since the scale last changed, an int32 scalar.
    period: finite steps until it doubles.

  Raises:
    UserError: `period` below 1.
  """

  value: Any = 2.0**15
  finite_steps: Any = 0
  period: int = dataclasses.field(default=2000, metadata={"static": True})

  dynamic: ClassVar[bool] = True

  def __post_init__(self) -> None:
    if self.period < 1:
      raise UserError(f"LossScale.period = {self.period}: must be at least 1")
    # Python numbers get the types that `update` gives: a weak type would compile the step twice.
    # NumPy, not JAX: an object built from gin must not start a device.
    if type(self.value) in (int, float):
      object.__setattr__(self, "value", np.float32(self.value))
    if type(self.finite_steps) is int:
      object.__setattr__(self, "finite_steps", np.int32(self.finite_steps))

  def scale(self, loss: Array) -> Array:
    """The loss to differentiate."""
    return loss * jnp.asarray(self.value, loss.dtype)

  def unscale(self, grads: Any) -> Any:
    """The gradients of the unscaled loss, each in its own dtype."""
    return jax.tree.map(lambda g: (g / self.value).astype(g.dtype), grads)

  def update(self, finite: Array) -> LossScale:
    """The scale of the next step; `finite` is a bool scalar, whether this step's gradients were."""
    steps = jnp.where(finite, self.finite_steps + 1, 0)
    grow = steps >= self.period
    grown = jnp.where(grow, jnp.minimum(self.value * 2.0, LARGEST), self.value)
    value = jnp.where(finite, grown, jnp.maximum(self.value / 2.0, 1.0))
    return LossScale(
      value.astype(jnp.float32), jnp.where(grow, 0, steps).astype(jnp.int32), self.period
    )


def all_finite(tree: Any) -> Array:
  """Whether no leaf holds an inf or a NaN, a bool scalar."""
  leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
  return jnp.all(jnp.stack(leaves)) if leaves else jnp.bool_(True)
