"""The state of an Adafactor of ours is read as T5X's is, and any other's is refused by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mtm.families.t5 import t5
from mtm.interop import t5x
from mtm.interop._base import Export
from mtm.objectives.seq2seq import Seq2Seq
from mtm.programs import initial, moments, published
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training.checkpoint import Checkpoints
from mtm.training.optimizers.adafactor import adafactor
from mtm.training.optimizers.adamw import adamw
from mtm.training.trainer import Trainer
from tests.families import t5x_names


def trainer(optimizer: Any) -> Trainer:
  model = t5(2, 16, 2, 8, 24, 64)
  batch = {name: jax.ShapeDtypeStruct((2, 8), np.int32) for name in model.inputs}
  return Trainer(model, Seq2Seq(), optimizer, Plan(mesh(devices=jax.devices()[:1])), batch)


def saved(state: Any, home: Path) -> Path:
  """Its checkpoint."""
  checkpoints = Checkpoints(home)
  checkpoints.save(state, {})
  checkpoints.close()
  return checkpoints.directory / str(int(state.step))


def test_what_training_left_is_written_as_t5x_had_it(tmp_path: Path) -> None:
  """T5X's own factored moments, taken over by a run of ours, saved, and written back."""
  told = t5x_names.load("factored")
  leaves = {k: x for k, x in told.items() if k.startswith("state/")}
  arrays = t5x_names.load("t5_1_1").items()
  leaves |= {k.replace("param", "target", 1): x for k, x in arrays if k.startswith("param/")}
  foreign = t5x.opened(t5x.Indexed(Path("recorded"), leaves))
  assert foreign.moments is not None
  run = trainer(adafactor(1e-2, min_dim_size_to_factor=8))
  fresh, theirs = run.create(), foreign.moments()
  state = dataclasses.replace(
    fresh, step=fresh.step + theirs.step,
    params=foreign.params(run.model, published.placed(run.abstract.params)),
    opt_state=initial.with_moments(fresh.opt_state, theirs),
  )  # fmt: skip
  ours = moments.beside(saved(state, tmp_path / "run"))
  assert ours is not None and not ours.refused and ours.step == 3
  export = Export(foreign.build, foreign.arguments, state.params, moments=ours)
  t5x.FORMAT.write(tmp_path / "t5x", export)
  source = t5x.FORMAT.open(tmp_path / "t5x").source
  assert source.names() == leaves.keys()
  for name, values in leaves.items():
    np.testing.assert_array_equal(source.get(name), values, err_msg=name)


@pytest.mark.parametrize(
  ("optimizer", "told"),
  [(adamw(1e-3), "another optimizer"), (adafactor(1e-2, momentum=0.9), "momentum")],
)
def test_another_state_is_refused_by_name(optimizer: Any, told: str, tmp_path: Path) -> None:
  found = moments.beside(saved(trainer(optimizer).create(), tmp_path))
  assert found is not None and told in found.refused


def test_a_checkpoint_of_parameters_alone_has_none(tmp_path: Path) -> None:
  step = tmp_path / "checkpoints" / "0"
  (step / "params").mkdir(parents=True)
  assert moments.beside(step) is None
