"""A trained model from its directory: parameters on a mesh, and the vocabulary beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtm import axes
from mtm.sharding.mesh import Mesh
from mtm.sharding.plan import Plan
from mtm.sharding.rules import Rule
from mtm.training import checkpoint
from mtm.types import Batch, Model, Params

VOCABULARY = "vocabulary"


def example(model: Model, length: int = 8) -> Batch:
  """The smallest batch that the model reads, for shapes."""
  return {name: np.zeros((1, length), np.int32) for name in model.inputs}


def abstract_parameters(model: Model, plan: Plan) -> Params:
  """The model's parameters as `ShapeDtypeStruct`s with their shardings.

  Raises:
    LayoutError: the mesh does not divide a parameter.
  """
  batch = example(model)
  with axes.use(None):
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    names = model.axes(batch)
  shardings = plan.of_params(names, shapes)
  return jax.tree.map(
    lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, shardings
  )


def parameters(
  model: Model, mesh: Mesh, path: str, rules: Mapping[str, Rule] | None = None
) -> tuple[Plan, Params]:
  """The plan on this mesh, and the parameters of the checkpoint at `path` laid out on it.

  Raises:
    UserError: no checkpoint there, a damaged one, or one of another model.
  """
  plan = Plan.of(mesh, rules)
  return plan, checkpoint.restore_params(path, abstract_parameters(model, plan))


def vocabulary(path: str | Path) -> Any:
  """The vocabulary that a run saved in its MODEL_DIR; `path` is that, or one checkpoint of it.

  Raises:
    UserError: there is none.
  """
  from mtm.data.vocabulary import load

  step = checkpoint.find(path)
  return load(step.parent.parent / VOCABULARY)
