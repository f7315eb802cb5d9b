"""TrainState: everything that a training step reads and writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtm.types import Array, Params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """A pytree; two runs in the same state do the same from here on.

  Attributes:
    step: int32 scalar, how many steps were taken.
    params: float32 master parameters.
    opt_state: the optimizer's.
    rng: uint32 data of the run's PRNG key; a step's key is this one folded with `step`.
    extra: further state by name, such as `loss_scale`.

  As everywhere with pytrees, a tree of shardings or of shapes has this class too.
  """

  step: Any
  params: Params
  opt_state: Any
  rng: Any
  extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def create(
  params: Params, optimizer: optax.GradientTransformation, seed: int, extra: Mapping[str, Any]
) -> TrainState:
  """The state before the first step.

  Args:
    params: fresh or restored parameters.
    optimizer: makes the optimizer state.
    seed: decides dropout.
    extra: see `TrainState`.
  """
  rng = jax.random.key_data(jax.random.fold_in(jax.random.key(seed), 1))
  return TrainState(jnp.int32(0), params, optimizer.init(params), rng, dict(extra))


def step_key(state: TrainState) -> Array:
  """The PRNG key of the step about to be taken."""
  return jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
