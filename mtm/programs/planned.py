"""A training run as its gin files say it, on devices that need not be here, and without data."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax

from mtm import config
from mtm.errors import UserError
from mtm.programs import loading
from mtm.sharding.plan import Plan
from mtm.training.memory import Memory
from mtm.training.precision import NoScale
from mtm.training.trainer import Trainer
from mtm.types import Model, Params

# What a run must be told and a plan need not know.
_UNKNOWN = {
  "MODEL_DIR": "'unknown'", "MIXTURE_OR_TASK_NAME": "'unknown'", "TRAIN_STEPS": "1000000",
  "INITIAL_CHECKPOINT_PATH": "'unknown'",
}  # fmt: skip
_PARTS = ("model", "objective", "optimizer", "train_data", "rules", "seed", "microbatches",
          "normalizer", "loss_scale", "memory", "remat", "matmul", "pipeline")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Run:
  """The parts of a run.

  Attributes:
    parts: by the names of `mtm.train.train`'s parameters.
    mesh: makes the mesh, given `devices`.
    sizes: what the gin files say of the mesh.
    config: the gin files.
  """

  parts: dict[str, Any]
  mesh: Callable[..., Any]
  sizes: dict[str, Any]
  config: config.Config

  @property
  def batch_size(self) -> int:
    """Rows of a batch."""
    return self.parts["train_data"].batch_size

  @property
  def model(self) -> Model:
    """The model, as it recomputes and multiplies in this run."""
    return self.parts["model"].fitted(self.parts.get("remat"), self.parts.get("matmul"))

  def plan(self, devices: Sequence[Any], **sizes: Any) -> Plan:
    """Where arrays lie on these devices; `sizes` are another mesh than that of the gin files.

    Raises:
      UserError: the mesh does not fit the devices.
    """
    asked = sizes or self.sizes
    try:
      mesh = self.mesh(**{**asked, "devices": devices})
    except UserError:
      raise
    except (TypeError, ValueError, NotImplementedError) as error:  # JAX's search for a layout
      raise UserError(
        f"the mesh {asked} cannot be laid on the torus of these {len(devices)} chips: take sizes"
        " that are products of its sides and of their factors"
      ) from error
    return Plan.of(mesh, self.parts.get("rules"))

  def trainer(self, devices: Sequence[Any], **sizes: Any) -> Trainer:
    """The run on these devices.

    Raises:
      UserError: the mesh does not fit the devices, or the objective does not make what the model
        reads.
    """
    parts = self.parts
    shapes = parts["train_data"].shapes(parts["objective"])
    missing = [name for name in parts["model"].inputs if name not in shapes]
    if missing:
      raise UserError(
        f"the model reads {', '.join(missing)}, which {type(parts['objective']).__name__} does not"
        " make: take another of objectives/*.gin"
      )
    schedule = parts.get("pipeline")
    return Trainer(
      self.model if schedule is None else schedule.applied(self.model),
      parts["objective"],
      parts["optimizer"],
      self.plan(devices, **sizes),
      {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()},
      parts.get("seed", 0),
      parts.get("microbatches", 1),
      parts.get("normalizer"),
      parts.get("loss_scale", NoScale()),
      parts.get("memory", Memory()),
    )

  def generator(self, devices: Sequence[Any]) -> tuple[Model, Plan, Params]:
    """The model, and its parameters' shapes, laid out on these devices."""
    plan = self.plan(devices)
    return self.model, plan, loading.abstract_parameters(self.model, plan)


def of(files: Sequence[str], flags: Sequence[str], search_paths: str = "") -> Run:
  """The run of gin files and `--gin.NAME=VALUE` flags; no task is looked up.

  Raises:
    UserError: as `mtm train` would; the mesh is no `MESH` macro; the lengths are not told.
  """
  from mtm.train import train

  logging.getLogger("absl").setLevel(logging.WARNING)
  bindings, paths = config.bindings_of(flags), [p for p in search_paths.split(",") if p]
  said = config.load(None, files, bindings, paths)
  lacking = [f"{name}={value}" for name, value in _UNKNOWN.items() if said.lacks(name)]
  loaded = config.load(train, files, [*bindings, *lacking], paths)
  mesh = loaded.parts("MESH") if loaded.defines("MESH") else None
  if mesh is None:
    raise UserError("the gin files call no mesh by the macro MESH: include one of mesh/*.gin")
  parts = loaded.arguments(*_PARTS)
  if parts["train_data"].task_feature_lengths is None:
    raise UserError("TASK_FEATURE_LENGTHS is None, and no data are read here: give the lengths")
  return Run(parts, *mesh, loaded)
