"""The cheapest change by which a run that does not fit would fit, found by trying."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mtm.errors import UserError
from mtm.parts import remat
from mtm.scale import memory
from mtm.scale.program import Compiled
from mtm.sharding.mesh import mesh
from mtm.training.trainer import Trainer

TRIES = 4  # each is a compilation


class Change(NamedTuple):
  """A change of a run.

  Attributes:
    told: what to set.
    trainer: the run, changed.
  """

  told: str
  trainer: Trainer


def changes(trainer: Trainer) -> Iterator[Change]:
  """Changes that need less memory, by what they cost: recomputation, smaller microbatches, then a
  mesh that cuts parameters further, and the two together."""
  full = _recomputing(trainer)
  if full is not None:
    yield Change("compute each layer again in the backward pass: REMAT = @remat.full()", full)
  base = full or trainer
  said = "" if full is None else ", with REMAT = @remat.full()"
  for parts in _microbatches(base):
    yield Change(f"MICROBATCHES = {parts}{said}", _changed(base, microbatches=parts))
  for sizes in _meshes(base):
    shown = ", ".join(f"{name} = {size}" for name, size in sizes.items())
    with_mesh = _on(base, sizes)
    if with_mesh is None:
      continue
    yield Change(f"mesh.mesh: {shown}{said}", with_mesh)
    for parts in _microbatches(with_mesh):
      yield Change(
        f"mesh.mesh: {shown}; MICROBATCHES = {parts}{said}",
        _changed(with_mesh, microbatches=parts),
      )


def cheapest(
  trainer: Trainer,
  refused: Compiled,
  limit: float,
  tell: Callable[[str], None],
  compiled: Callable[[Trainer], Compiled],
) -> str:
  """Tries changes until one fits; returns what to set, or what was tried in vain.

  A change is tried only if by an estimate it could fit: parameters and optimizer as the mesh cuts
  them, and the rest of what the last try wanted in proportion to a microbatch.

  Args:
    trainer: the run that does not fit.
    refused: what the compiler said of it.
    limit: bytes of a chip.
    tell: is told what is being tried.
    compiled: compiles a run.
  """
  limit = refused.wanted[1] if refused.wanted else limit
  tried: list[str] = []
  last, made = trainer, refused
  for change in changes(trainer):
    if _estimate(change.trainer, last, made) > limit:
      continue
    tell(f"trying {change.told}")
    try:
      made = compiled(change.trainer)
    except UserError:
      continue  # this mesh does not divide the model
    if made.executable is not None:
      return f"it fits with {change.told}"
    tried.append(change.told)
    last = change.trainer
    if len(tried) == TRIES:
      break
  if tried:
    return f"tried, and does not fit either: {'; '.join(tried)}"
  return "nothing that mtm would try could fit: take more chips, or a smaller model"


def _held(trainer: Trainer) -> int:
  state = trainer.abstract
  return memory.shard_bytes(state.params) + memory.shard_bytes(state.opt_state)


def _estimate(new: Trainer, old: Trainer, made: Compiled) -> float:
  """Bytes that a changed run might want: what is held, and the rest as its microbatch has rows."""
  try:
    held, before = _held(new), _held(old)
  except UserError:
    return math.inf
  if made.wanted is None:
    return held
  rows = _rows(new) / _rows(old)
  if _recomputing(new) is None and _recomputing(old) is not None:
    rows /= 4  # of what a layer makes, its input alone is kept
  return held + max(made.wanted[0] - before, 0.0) * rows


def _rows(trainer: Trainer) -> float:
  """Rows of a microbatch that a device has."""
  rows = next(iter(trainer.batch.values())).shape[0]
  return rows / trainer.plan.rows / trainer.microbatches


def _recomputing(trainer: Trainer) -> Trainer | None:
  """The run with everything computed again; None where it does that already."""
  fitted = trainer.model.fitted(remat.full())
  return None if fitted == trainer.model else _changed(trainer, model=fitted)


def _changed(trainer: Trainer, **fields: Any) -> Trainer:
  """The run with other fields, none of which changes its state; so it need not be traced again."""
  new = dataclasses.replace(trainer, **fields)
  known = ("shapes", "shardings", "abstract", "_names")
  vars(new).update({name: value for name, value in vars(trainer).items() if name in known})
  return new


def _microbatches(trainer: Trainer) -> Iterator[int]:
  rows = next(iter(trainer.batch.values())).shape[0]
  parts = 2 * trainer.microbatches
  while rows % (parts * trainer.plan.rows) == 0:
    yield parts
    parts *= 2


def _meshes(trainer: Trainer) -> Iterator[dict[str, int]]:
  """Meshes that cut parameters further: the copies along `data` moved to `fsdp`."""
  sizes = {name: size for name, size in trainer.plan.mesh.shape.items() if size > 1}
  copies = sizes.pop("data", 1)
  if copies > 1:
    yield {**sizes, "data": 1, "fsdp": sizes.get("fsdp", 1) * copies}


def _on(trainer: Trainer, sizes: dict[str, Any]) -> Trainer | None:
  """The run on another mesh of the same devices; None where it does not divide the run."""
  devices = list(trainer.plan.mesh.devices.flat)
  if len({getattr(device, "slice_index", 0) for device in devices}) > 1:
    return None  # which axis lies across slices is for the user to say
  try:
    plan = dataclasses.replace(trainer.plan, mesh=mesh(**sizes, devices=devices))
    new = dataclasses.replace(trainer, plan=plan)
    new.shardings  # noqa: B018 (says whether the mesh divides it)
  except UserError:
    return None
  return new
