"""Where training begins from: any checkpoint, with its optimizer's state where it is known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtm.errors import UserError
from mtm.interop import Moments
from mtm.interop._base import shapes
from mtm.programs import published
from mtm.training import checkpoint
from mtm.training.state import TrainState
from mtm.training.trainer import Trainer


def state(trainer: Trainer, path: str) -> tuple[TrainState, dict[str, Any]]:
  """The state to begin from, and the record of what came before.

  A checkpoint of ours gives optimizer state and step too, and so does one of T5X's where the
  optimizer is Adafactor. Any other gives parameters, to a new optimizer at step 0.

  Args:
    trainer: whose model and optimizer these are.
    path: a MODEL_DIR, one checkpoint of it, or the directory of another library's checkpoint.

  Raises:
    UserError: no checkpoint there, a damaged one, or one of another model or optimizer.
  """
  opened = published.open_foreign(path)
  if opened is None:
    if checkpoint.has_training_state(path):
      restored, record = checkpoint.restore(path, trainer.abstract)
      return restored, {"tokens": record["tokens"], "first_step": int(restored.step)}
    params = checkpoint.restore_params(path, trainer.abstract.params)
    return _begun(trainer, params, None)
  _refuse_another(opened, trainer)
  params = opened.read(trainer.model, trainer.plan)
  foreign = opened.foreign
  moments = foreign.moments() if foreign is not None and foreign.moments is not None else None
  return _begun(trainer, params, moments)


def _begun(trainer: Trainer, params: Any, moments: Moments | None) -> tuple[TrainState, Any]:
  fresh = trainer.create()
  step, optimizer = 0, fresh.opt_state
  if moments is not None and _is_adafactor(optimizer):
    step, optimizer = moments.step, with_moments(optimizer, moments)
  begun = TrainState(_like(fresh.step, step), params, optimizer, fresh.rng, fresh.extra)
  return begun, {"tokens": 0.0, "first_step": step}


def with_moments(optimizer: Any, moments: Moments) -> Any:
  """The state of our Adafactor with the second moments and the step of another."""

  def one(path: Any, leaf: jax.Array) -> jax.Array:
    field = getattr(path[-1], "name", "")
    name = "/".join(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))
    values = _FIELDS.get(field, _kept)(leaf, name, moments)
    return _like(leaf, values)

  return jax.tree_util.tree_map_with_path(one, optimizer)


def _kept(leaf: jax.Array, name: str, moments: Moments) -> Any:
  del name, moments
  return leaf


def _count(leaf: jax.Array, name: str, moments: Moments) -> Any:
  del name
  return np.full(leaf.shape, moments.step, leaf.dtype)


def _whole(leaf: jax.Array, name: str, moments: Moments) -> Any:
  found = moments.of(name)
  return found[0] if len(found) == 1 else leaf


def _averages(leaf: jax.Array, name: str, moments: Moments, largest: bool) -> Any:
  """optax keeps as `v_col` the averages that lie along the matrix's larger side, or along its
  columns where the sides are equal."""
  found = moments.of(name)
  if len(found) == 1:
    return leaf
  rows, columns = found
  columns_larger = columns.shape[-1] >= rows.shape[-1]
  return columns if columns_larger == largest else rows


_FIELDS = {
  "count": _count,
  "v": _whole,
  "v_row": lambda leaf, name, moments: _averages(leaf, name, moments, False),
  "v_col": lambda leaf, name, moments: _averages(leaf, name, moments, True),
}


def _like(leaf: jax.Array, values: Any) -> jax.Array:
  """The values with the shape, dtype and layout of a leaf."""
  if np.shape(values) != leaf.shape:
    raise UserError(
      f"the checkpoint's optimizer state has an array of shape {np.shape(values)} where this"
      f" optimizer has {leaf.shape}: take the optimizer that it was trained with"
    )
  return jax.device_put(jnp.asarray(values, leaf.dtype), leaf.sharding)


def _is_adafactor(optimizer: Any) -> bool:
  leaves = jax.tree_util.tree_flatten_with_path(optimizer)[0]
  return any(getattr(path[-1], "name", "") == "v_row" for path, _ in leaves)


def _refuse_another(opened: published.Opened, trainer: Trainer) -> None:
  theirs, ours = shapes(opened.model()), shapes(trainer.model)
  for name in sorted(theirs.keys() | ours.keys()):
    if theirs.get(name) != ours.get(name):
      raise UserError(
        f"{opened.where} is of another model: {name} is {theirs.get(name, 'absent')} there and"
        f" {ours.get(name, 'absent')} here; take the model of `mtm convert`, its model.gin"
      )
