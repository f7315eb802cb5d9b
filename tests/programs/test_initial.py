"""Training goes on from what T5X wrote, and from parameters alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families.t5 import t5
from mtm.objectives.seq2seq import Seq2Seq
from mtm.programs import initial, published
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training.optimizers.adafactor import adafactor
from mtm.training.optimizers.adamw import adamw
from mtm.training.trainer import Trainer
from tests.families import t5x_names


@pytest.fixture(params=["t5_1_1", "t5_tied"])
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any], dict[str, Any]]:
  arrays = t5x_names.load(request.param)
  batch = {k.removeprefix("in/"): x for k, x in arrays.items() if k.startswith("in/")}
  return request.param, arrays, batch


def trainer(batch: dict[str, Any], optimizer: Any, tied: bool, **fields: Any) -> Trainer:
  model = t5(2, 16, 2, 8, 24, 64, dropout=0.0, tied=tied, **fields)
  shapes = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in batch.items()}
  plan = Plan(mesh(devices=jax.devices()[:1]))
  # T5X's loss is a sum here: no normalizing factor.
  return Trainer(model, Seq2Seq(z_loss=1e-4), optimizer, plan, shapes, normalizer=1.0)


def test_the_next_step_is_the_one_that_t5x_took(case: Any) -> None:
  name, arrays, batch = case
  run = trainer(batch, adafactor(1e-2), name == "t5_tied")
  state, record = initial.state(run, str(t5x_names.checkpoint("native", name)))
  assert int(state.step) == 3 and record["first_step"] == 3
  state, _ = run.train_step(state, run.plan.put_batch(batch))
  wanted = t5x_names.tree(arrays, "param_after_step")
  # One step of float32, whose update is about 0.01 of a parameter.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), state.params,
               wanted)  # fmt: skip
  assert int(state.step) == 4


def test_another_optimizer_begins_anew_with_the_parameters(case: Any) -> None:
  name, arrays, batch = case
  run = trainer(batch, adamw(1e-3), name == "t5_tied")
  state, _ = initial.state(run, str(t5x_names.checkpoint("native", name)))
  assert int(state.step) == 0
  jax.tree.map(np.testing.assert_array_equal, state.params, t5x_names.tree(arrays, "param"))


def test_a_converted_checkpoint_gives_parameters_to_a_new_optimizer(
  case: Any, tmp_path: Path
) -> None:
  name, arrays, batch = case
  run = trainer(batch, adafactor(1e-2), name == "t5_tied")
  opened = published.open_checkpoint(t5x_names.checkpoint("native", name))
  params = opened.read(run.model, run.plan)
  published.write(opened, params, "mtm", tmp_path / "ours")
  state, _ = initial.state(run, str(tmp_path / "ours"))
  assert int(state.step) == 0
  jax.tree.map(np.testing.assert_array_equal, state.params, t5x_names.tree(arrays, "param"))


def test_another_model_is_refused(case: Any) -> None:
  name, _, batch = case
  run = trainer(batch, adafactor(1e-2), name == "t5_tied", decoder_layers=1)
  with pytest.raises(UserError, match="is of another model: decoder/stack/period_0"):
    initial.state(run, str(t5x_names.checkpoint("native", name)))
