"""One training step and one evaluation step: pure functions of a state and a batch."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtm.errors import UserError
from mtm.training import precision
from mtm.training.memory import Memory
from mtm.training.state import TrainState, step_key
from mtm.types import Apply, Array, Batch, Objective, Params, Sums

Step = Callable[[TrainState, Batch], tuple[TrainState, Sums]]


class Place(NamedTuple):
  """Where trees like the parameters lie on a mesh; each function gives its tree, laid out.

  Attributes:
    gradients: of gradients and of their sum over microbatches.
    updates: of what the optimizer adds: by the layout of its slots, so that each device makes the
      updates that its slots are for, and parameters kept whole are gathered after the sum.
  """

  gradients: Callable[[Params], Params]
  updates: Callable[[Params], Params]


NOWHERE = Place(lambda tree: tree, lambda tree: tree)


def train_step(
  apply: Apply,
  objective: Objective,
  optimizer: optax.GradientTransformation,
  microbatches: int = 1,
  normalizer: float | None = None,
  place: Place | None = None,
  memory: Memory = Memory(),  # noqa: B008 (frozen)
) -> Step:
  """Builds `(state, batch) → (state, sums)`.

  Gradients are those of the summed loss divided by the summed weight, whatever the split into
  microbatches and however padding falls on them. A step whose gradients are not finite under
  dynamic loss scaling changes nothing but the scale and the step count.

  Args:
    apply: the model's.
    objective: gives the loss.
    optimizer: turns gradients into updates.
    microbatches: how many parts of the batch are run one after another.
    normalizer: what the summed gradient is divided by; None: the batch's weight (T5X's
      `LOSS_NORMALIZING_FACTOR`).
    place: where gradients and updates lie; None: wherever XLA puts them.
    memory: how the state is kept between steps.

  Returns:
    a pure function; its sums also carry `gradient_norm` (before clipping), `parameter_norm`,
    and `skipped` (1 where gradients were not finite).
  """
  place = place or NOWHERE

  def step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
    scale = state.extra["loss_scale"]
    size = next(iter(batch.values())).size / microbatches  # keeps fp16 near the size of a mean

    def loss(params: Params, part: Batch, key: Array) -> tuple[Array, Sums]:
      sums = objective.loss(apply, params, part, rng=key, train=True)
      return scale.scale(sums.loss / size), sums

    def kept(grads: Params) -> Params:
      return place.gradients(memory.wide(grads))

    gradients = functools.partial(jax.grad(loss, has_aux=True), state.params)
    grads, sums = accumulate(gradients, batch, step_key(state), microbatches, kept)
    weight = jnp.where(sums.weight == 0, 1.0, sums.weight) if normalizer is None else normalizer
    grads = jax.tree.map(lambda g: g * (size / weight), scale.unscale(grads))
    finite = precision.all_finite(grads) if scale.dynamic else jnp.bool_(True)
    old = memory.wide(state.params), memory.fetched(state.opt_state)
    updates, opt_state = optimizer.update(grads, old[1], old[0])
    new = optax.apply_updates(old[0], place.updates(updates)), opt_state
    if scale.dynamic:
      new = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
    one = jnp.float32(1)
    metrics = {
      **sums.metrics,
      "gradient_norm": (optax.tree.norm(grads), one),
      "parameter_norm": (optax.tree.norm(new[0]), one),
      "skipped": (1.0 - finite.astype(jnp.float32), one),
    }
    params, opt_state = memory.rounded(new, (state.params, state.opt_state), step_key(state))
    after = TrainState(
      state.step + 1, params, opt_state, state.rng,
      {**state.extra, "loss_scale": scale.update(finite)},
    )  # fmt: skip
    return after, dataclasses.replace(sums, metrics=metrics)

  return step


def eval_step(apply: Apply, objective: Objective) -> Callable[[Params, Batch], Sums]:
  """Builds `(params, batch) → sums`, without dropout."""

  def step(params: Params, batch: Batch) -> Sums:
    return objective.loss(apply, params, batch, rng=None, train=False)

  return step


def accumulate(
  gradients: Callable[[Batch, Array], tuple[Params, Sums]],
  batch: Batch,
  key: Array,
  microbatches: int,
  place: Callable[[Params], Params] = NOWHERE.gradients,
) -> tuple[Params, Sums]:
  """Sums `gradients(part, key)` over parts of the batch, one after another under a scan.

  Part i takes the rows i, i + n, i + 2n, ...: so that each device's rows stay where they are.

  Args:
    gradients: of one part.
    batch: arrays `[batch, ...]`.
    key: folded with the part's number.
    microbatches: number of parts, n.
    place: lays out the sum of gradients.

  Raises:
    UserError: the batch is no multiple of `microbatches`.
  """
  if microbatches == 1:
    grads, sums = gradients(batch, key)
    return place(grads), sums
  rows = next(iter(batch.values())).shape[0]
  if rows % microbatches:
    raise UserError(f"microbatches = {microbatches} does not divide the batch of {rows}")

  def split(x: Array) -> Array:
    return jnp.swapaxes(x.reshape(rows // microbatches, microbatches, *x.shape[1:]), 0, 1)

  def body(total: Any, item: Any) -> tuple[Any, None]:
    index, part = item
    grads, sums = jax.tree.map(jnp.add, total, gradients(part, jax.random.fold_in(key, index)))
    return (place(grads), sums), None

  parts = jax.tree.map(split, dict(batch))
  shapes = jax.eval_shape(gradients, jax.tree.map(lambda x: x[0], parts), key)
  zeros, none = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  return jax.lax.scan(body, (place(zeros), none), (jnp.arange(microbatches), parts))[0]
