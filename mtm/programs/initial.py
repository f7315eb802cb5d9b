"""Where training begins from: any checkpoint, with its optimizer's state where it is known."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtm.errors import UserError
from mtm.families._names import Row
from mtm.interop import Foreign, Moments, hf, tree
from mtm.interop._base import shapes
from mtm.programs import published
from mtm.programs.moments import beside
from mtm.programs.upcycling import Upcycle
from mtm.training import checkpoint
from mtm.training.state import TrainState
from mtm.training.trainer import Trainer

Shapes = Mapping[str, tuple[int, ...]]


def state(
  trainer: Trainer,
  path: str,
  fallback_to_scratch: str | None = None,
  upcycle: Upcycle | None = None,
  parameters_only: bool = False,
) -> tuple[TrainState, dict[str, Any]]:
  """The state to begin from, and the record of what came before.

  A checkpoint of ours gives optimizer state and step too, and so does one of T5X's, converted or
  not, where the optimizer is Adafactor. Any other gives parameters, to a new optimizer at step 0.

  With `fallback_to_scratch` the checkpoint may be of another model: parameters that it does not
  have, or has in another shape, begin afresh where they match, and what it has and this model has
  not stays unread. Both are printed by name, and the optimizer and the step begin anew.

  Args:
    trainer: whose model and optimizer these are.
    path: a MODEL_DIR, one checkpoint of it, or the directory of another library's checkpoint.
    fallback_to_scratch: a regular expression for the whole path of a parameter, such as `head/.*`;
      None: the two models are the same.
    upcycle: how a model with experts is made of a dense checkpoint; None: it is not.
    parameters_only: whether the optimizer and the step begin anew.

  Raises:
    UserError: no checkpoint there, a damaged one, or one of another model or optimizer; or both of
      the last two are given.
  """
  if upcycle is not None:
    if fallback_to_scratch is not None:
      raise UserError(
        f"FALLBACK_TO_SCRATCH = {fallback_to_scratch!r} does not go with `upcycle`, which lets the"
        " routers begin afresh and nothing else: leave one of them out"
      )
    return _upcycled(trainer, path, upcycle)
  if fallback_to_scratch is not None:
    part = _part(path, shapes(trainer.model))
    if part.missing or part.left:
      _refuse_unmatched(part, fallback_to_scratch)
      return _with_part(trainer, part)
  opened = published.open_foreign(path)
  if opened is None:
    if checkpoint.has_training_state(path) and not parameters_only:
      restored, record = checkpoint.restore(path, trainer.abstract)
      return restored, {"tokens": record["tokens"], "first_step": int(restored.step)}
    params = checkpoint.restore_params(path, trainer.abstract.params)
    moments = None if parameters_only else beside(checkpoint.find(path))
    return _begun(trainer, params, moments, path)
  _refuse_another(opened, trainer)
  params = opened.read(trainer.model, trainer.plan)
  return _begun(trainer, params, None if parameters_only else opened.moments(), path)


def _upcycled(trainer: Trainer, path: str, upcycle: Upcycle) -> tuple[TrainState, dict[str, Any]]:
  """A model with experts from a dense checkpoint, which is in memory wholly."""
  opened = published.open_checkpoint(path)
  dense = opened.fill(opened.model(), lambda _, values: np.asarray(values), np.empty)
  place = published.placed(trainer.abstract.params)
  made = upcycle.parameters(tree.flatten(dense), shapes(trainer.model))
  return _afresh_but(trainer, {name: place(name, values) for name, values in made})


def _afresh_but(trainer: Trainer, params: Mapping[str, Any]) -> tuple[TrainState, dict[str, Any]]:
  """A state before the first step with some of its parameters, by path, replaced."""
  fresh, whole = trainer.create(), dict[str, Any]()
  for name, leaf in {**tree.flatten(fresh.params), **params}.items():
    tree.put(whole, name, leaf)
  return dataclasses.replace(fresh, params=whole), {"tokens": 0.0, "first_step": 0}


def _begun(
  trainer: Trainer, params: Any, moments: Moments | None, where: str
) -> tuple[TrainState, Any]:
  fresh = trainer.create()
  step, optimizer = 0, fresh.opt_state
  if moments is not None and _is_adafactor(optimizer):
    if moments.refused:
      raise UserError(
        f"the optimizer's state in {where} is of no use to Adafactor: {moments.refused}; `mtm"
        " convert` it, which leaves that state out, to begin with its parameters only"
      )
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
  if isinstance(values, jax.Array) and values.sharding == leaf.sharding:
    return values
  whole = np.asarray(values, leaf.dtype)  # the same on every host, which puts its own part
  return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: whole[index])


def _is_adafactor(optimizer: Any) -> bool:
  leaves = jax.tree_util.tree_flatten_with_path(optimizer)[0]
  return any(getattr(path[-1], "name", "") == "v_row" for path, _ in leaves)


def _refuse_another(opened: published.Opened, trainer: Trainer) -> None:
  theirs, ours = shapes(opened.model()), shapes(trainer.model)
  for name in sorted(theirs.keys() | ours.keys()):
    if theirs.get(name) != ours.get(name):
      raise UserError(
        f"{opened.where} is of another model: {name} is {theirs.get(name, 'absent')} there and"
        f" {ours.get(name, 'absent')} here; take the model of `mtm convert`, its model.gin, or let"
        " parameters begin afresh, FALLBACK_TO_SCRATCH='head/.*'"
      )


@dataclasses.dataclass(frozen=True)
class _Part:
  """What a model takes of a checkpoint; nothing is read yet.

  Attributes:
    where: the checkpoint.
    taken: the shapes of its parameters that the model has too.
    missing: the model's others.
    left: parameters that the checkpoint has and the model has not.
    unused: what nothing is taken from, as the checkpoint calls it.
    sources: another library's checkpoint, and the rows of its table to read; none: it is ours.
  """

  where: str
  taken: Shapes
  missing: Collection[str]
  left: Collection[str]
  unused: Collection[str]
  sources: Sequence[tuple[Foreign, Sequence[Row]]] = ()

  def read(self, place: tree.Place) -> dict[str, Any]:
    """The parameters taken, as a nested dict."""
    found: dict[str, Any] = {}
    for foreign, rows in self.sources:
      like = {path: self.taken[path] for row in rows for path in row.ours}
      read = tree.read(foreign.source, rows, like, place, (".*",))
      for path, leaf in tree.flatten(read).items():
        tree.put(found, path, leaf)
    if not self.sources:
      saved = _flat(checkpoint.shapes(self.where))
      for path, values in checkpoint.parameters(self.where, saved):
        if path in self.taken:
          tree.put(found, path, place(path, values))
    return found


def _part(path: str, wanted: Shapes) -> _Part:
  """What a model with these parameters takes of a checkpoint."""
  if hf.FORMAT.found(Path(path)):
    return _foreign_part(path, wanted, hf.FORMAT.heads(Path(path)))
  opened = published.open_foreign(path)
  if opened is not None and opened.foreign is not None:
    return _foreign_part(path, wanted, [opened.foreign])
  theirs = _flat(checkpoint.shapes(path))
  taken = {name: shape for name, shape in theirs.items() if wanted.get(name) == shape}
  left = theirs.keys() - taken
  return _Part(path, taken, wanted.keys() - taken, left, left)


def _foreign_part(path: str, wanted: Shapes, foreigns: Iterable[Foreign]) -> _Part:
  """What is taken of another library's checkpoint, read as each of these models."""
  taken: dict[str, tuple[int, ...]] = {}
  used: set[str] = set()
  sources, there, known, copies = [], [], set[str](), dict[str, str]()
  for foreign in foreigns:
    theirs, rows = shapes(foreign.model()), []
    known, copies = known | foreign.source.names(), {**copies, **foreign.copies}
    for row in foreign.rows:
      repeats = theirs[row.ours[0]][0] if row.layered else 1
      names = {name for repeat in range(repeats) for name in row.names(repeat)}
      if not names <= known:
        continue
      there.append((row, names))
      if all(name not in taken and wanted.get(name) == theirs[name] for name in row.ours):
        rows.append(row)
        taken |= {name: theirs[name] for name in row.ours}
        used |= names
    sources.append((foreign, rows))
  left = {name for row, names in there if not names <= used for name in row.ours}
  unused = {name for name in known - used if copies.get(name) not in used}
  return _Part(path, taken, wanted.keys() - taken, left, unused, sources)


def _refuse_unmatched(part: _Part, pattern: str) -> None:
  """Raises UserError where models differ in more than the pattern says."""
  try:
    may = re.compile(pattern)
  except re.error as error:
    raise UserError(
      f"FALLBACK_TO_SCRATCH = {pattern!r} is no regular expression ({error}): give one such as"
      " 'head/.*'"
    ) from error
  for names, told in ((part.missing, "lacks"), (part.left, "has, and this model has not,")):
    wrong = sorted(name for name in names if not may.fullmatch(name))
    if wrong:
      raise UserError(
        f"{part.where} {told} {', '.join(wrong[:3])}, which FALLBACK_TO_SCRATCH = {pattern!r} does"
        " not match: take the checkpoint's own model and sizes, or a wider expression"
      )


def _with_part(trainer: Trainer, part: _Part) -> tuple[TrainState, dict[str, Any]]:
  begun = _afresh_but(trainer, tree.flatten(part.read(published.placed(trainer.abstract.params))))
  if jax.process_index() == 0:
    count = len(shapes(trainer.model))
    print(f"{part.where}: {len(part.taken)} of the model's {count} parameters come from it")
    print(f"begun afresh: {_listed(part.missing)}")
    print(f"of the checkpoint unused: {_listed(part.unused)}")
  return begun


def _listed(names: Collection[str]) -> str:
  return f"{len(names)}: {', '.join(sorted(names))}" if names else "none"


def _flat(params: Any) -> dict[str, tuple[int, ...]]:
  return {name: tuple(leaf.shape) for name, leaf in tree.flatten(params).items()}
