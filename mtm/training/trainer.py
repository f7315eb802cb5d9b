"""A run's state and steps on its mesh: the model, objective, optimizer and plan, put together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
import optax

from mtm import axes
from mtm.errors import UserError
from mtm.sharding.plan import Plan
from mtm.training import state as states
from mtm.training import step as steps
from mtm.training.memory import Memory
from mtm.training.metrics import plain
from mtm.training.precision import NoScale
from mtm.training.state import TrainState
from mtm.types import Axes, Batch, Model, Objective, Params, Sums


@dataclasses.dataclass(frozen=True)
class Evaluator:
  """A model and an objective, ready to be measured: all that `mtm eval` needs of a trainer.

  Attributes:
    model, objective: what is measured, on what.
    plan: where arrays lie.
  """

  model: Model
  objective: Objective
  plan: Plan

  @functools.cached_property
  def step(self) -> Any:
    """The jitted `(params, batch) → sums`."""
    return self.plan.jit(steps.eval_step(self.model.apply, self.objective))

  def evaluate(self, params: Params, batches: Iterable[Batch]) -> dict[str, Any]:
    """Means over a finite stream of batches: numbers, and arrays of what has an axis `layers`.

    Raises:
      UserError: there was no batch.
    """
    total: Sums | None = None
    for batch in batches:
      sums = self.step(params, self.plan.put_batch(batch))
      total = sums if total is None else total + sums
    if total is None:
      raise UserError("the evaluation split gave no batch: it is empty, or shorter than a batch")
    return {name: plain(value) for name, value in jax.device_get(total.means()).items()}


@dataclasses.dataclass(frozen=True)
class Trainer:
  """What stays the same over a run.

  Attributes:
    model, objective, optimizer: what is trained, on what, and how.
    plan: where arrays lie.
    batch: shapes of a batch, feature name → `ShapeDtypeStruct` `[batch, length]`.
    seed: decides initial parameters and dropout, the same on every mesh.
    microbatches, normalizer: see `steps.train_step`.
    loss_scale: `precision.NoScale()` or `precision.LossScale...` for fp16.
    memory: how the state is kept between steps.
  """

  model: Model
  objective: Objective
  optimizer: optax.GradientTransformation
  plan: Plan
  batch: Any
  seed: int = 0
  microbatches: int = 1
  normalizer: float | None = None
  loss_scale: Any = NoScale()  # noqa: B008 (frozen)
  memory: Memory = Memory()  # noqa: B008 (frozen)

  @functools.cached_property
  def shapes(self) -> TrainState:
    """The state's shapes and dtypes, abstractly."""
    with axes.use(None):
      return jax.eval_shape(self._create)

  @functools.cached_property
  def shardings(self) -> TrainState:
    """The state's shardings.

    Raises:
      LayoutError: the mesh does not divide a parameter or the batch.
    """
    params = self.plan.of_params(self._names, self.shapes.params)
    slots = self.plan.of_params(self._names, self.shapes.params, self.plan.slots)
    opt_state = self.plan.of_state(self.shapes.opt_state, self.shapes.params, slots)
    whole = self.plan.replicated
    return TrainState(
      whole,
      params,
      self.memory.shardings(opt_state, self.shapes.opt_state),
      whole,
      jax.tree.map(lambda _: whole, self.shapes.extra),
    )

  @functools.cached_property
  def abstract(self) -> TrainState:
    """Shapes with their shardings: what a checkpoint restores into."""
    return jax.tree.map(
      lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where),
      self.shapes,
      self.shardings,
    )

  def create(self) -> TrainState:
    """The state before the first step; every device makes its own part."""
    return self.plan.jit(self._create, out_shardings=self.shardings)()

  @functools.cached_property
  def train_step(self) -> Any:
    """The jitted `(state, batch) → (state, sums)`; the state given is donated."""
    step = steps.train_step(
      self.model.apply, self.objective, self.optimizer, self.microbatches, self.normalizer,
      steps.Place(self._placed(self.plan.gradients), self._placed(self.plan.slots)), self.memory,
    )  # fmt: skip
    return self.plan.jit(step, donate_argnums=0, out_shardings=(self.shardings, None))

  @functools.cached_property
  def evaluator(self) -> Evaluator:
    """Evaluates the same model on the same objective and devices."""
    return Evaluator(self.model, self.objective, self.plan)

  def evaluate(self, params: Params, batches: Iterable[Batch]) -> dict[str, Any]:
    """See `Evaluator.evaluate`."""
    return self.evaluator.evaluate(params, batches)

  @functools.cached_property
  def _names(self) -> Axes:
    with axes.use(None):
      return self.model.axes(self._example())

  def _placed(self, layout: axes.Layout) -> Callable[[Params], Params]:
    where = self.plan.of_params(self._names, self.shapes.params, layout)
    return lambda tree: jax.lax.with_sharding_constraint(tree, where)

  def _example(self) -> Batch:
    return {name: np.zeros(s.shape, s.dtype) for name, s in self.batch.items()}

  def _create(self) -> TrainState:
    params = self.model.init(jax.random.key(self.seed), self._example())
    extra = {"loss_scale": self.loss_scale}
    state = states.create(params, self.optimizer, self.seed, extra)
    return dataclasses.replace(
      state, params=self.memory.kept(params), opt_state=self.memory.kept_slots(state.opt_state)
    )
