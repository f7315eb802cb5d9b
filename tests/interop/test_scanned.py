"""T5X's scalable T5, scanned: the same logits and the same next step, there and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families.umt5 import umt5
from mtm.interop import hf, t5x
from mtm.interop._base import Export, Foreign
from mtm.objectives.seq2seq import Seq2Seq
from mtm.programs import initial, published
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training.optimizers.adafactor import adafactor
from mtm.training.trainer import Trainer
from tests.families import t5x_names


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
  return t5x_names.load("scanned")


def opened(arrays: dict[str, np.ndarray]) -> Foreign:
  leaves = {k: x for k, x in arrays.items() if k.startswith(("target/", "state/"))}
  return t5x.opened(t5x.Indexed(Path("recorded"), leaves))


def params(foreign: Foreign) -> Any:
  return foreign.params(foreign.model(), lambda path, values: values)


def batch(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  return {k.removeprefix("in/"): x for k, x in arrays.items() if k.startswith("in/")}


def test_logits_are_those_of_t5x(arrays: dict[str, np.ndarray]) -> None:
  foreign = opened(arrays)
  assert foreign.build is umt5
  logits = jax.jit(foreign.model(dropout=0.0).apply)(params(foreign), batch(arrays)).logits
  real = arrays["in/decoder_loss_weights"] > 0
  np.testing.assert_allclose(logits[real], arrays["logits"][real], rtol=1e-5, atol=1e-5)


def test_the_next_step_is_the_one_that_t5x_took(arrays: dict[str, np.ndarray]) -> None:
  foreign, inputs = opened(arrays), batch(arrays)
  shapes = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in inputs.items()}
  run = Trainer(
    foreign.model(dropout=0.0), Seq2Seq(), adafactor(1e-2, min_dim_size_to_factor=8),
    Plan(mesh(devices=jax.devices()[:1])), shapes, normalizer=1.0,
  )  # fmt: skip
  assert foreign.moments is not None
  moments, fresh = foreign.moments(), run.create()
  assert moments.step == 3
  state = dataclasses.replace(
    fresh,
    params=foreign.params(run.model, published.placed(run.abstract.params)),
    opt_state=initial.with_moments(fresh.opt_state, moments),
  )
  state, _ = run.train_step(state, run.plan.put_batch(inputs))
  after = {k.replace("after/", "target/"): x for k, x in arrays.items() if k.startswith("after/")}
  # One step of float32, whose update is about 0.01 of a parameter.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), state.params,
               params(opened(after)))  # fmt: skip


def test_it_goes_to_each_format_and_back(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
  foreign = opened(arrays)
  ours = params(foreign)
  assert foreign.moments is not None
  for format in (t5x.FORMAT, hf.FORMAT):
    home = tmp_path / format.name
    format.write(home, Export(foreign.build, foreign.arguments, ours, moments=foreign.moments()))
    again = format.open(home)
    assert again.build is umt5 and again.arguments == foreign.arguments
    jax.tree.map(np.testing.assert_array_equal, params(again), ours)
  source = t5x.FORMAT.open(tmp_path / "t5x").source
  assert source.names() == {k for k in arrays if k.startswith(("target/", "state/"))}
  for name in source.names():
    np.testing.assert_array_equal(source.get(name), arrays[name], err_msg=name)


def test_layers_along_another_axis_are_refused(arrays: dict[str, np.ndarray]) -> None:
  name = "target/encoder/encoder/pre_attention_layer_norm/scale"
  with pytest.raises(UserError, match="along another axis than the second"):
    opened({**arrays, name: arrays[name].T})
  with pytest.raises(UserError, match=f"has no {name} of rank 2"):
    opened({k: x for k, x in arrays.items() if k != name})
