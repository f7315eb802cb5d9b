"""Every published family against what `transformers` computed (tests/parity/record.py)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from mtm import axes
from mtm.interop import hf
from mtm.interop._base import Export
from mtm.interop.safetensors import ONE
from tests.families import recorded
from tests.families.states import watched


@dataclasses.dataclass(frozen=True)
class Case:
  """The original as a directory, as it is read, and its parameters."""

  name: str
  folder: Path
  foreign: Any
  model: Any
  params: Any


@pytest.fixture(scope="module", params=recorded.NAMES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
  with axes.use(None):
    folder = recorded.directory(request.param, tmp_path_factory.mktemp("theirs") / request.param)
    foreign = hf.FORMAT.open(folder)
    model = foreign.model(dropout=0.0)
    params = foreign.params(model, lambda path, values: values)
  return Case(request.param, folder, foreign, model, params)


def test_logits_are_those_of_the_original(case: Case) -> None:
  arrays = recorded.arrays(case.name)
  logits = jax.jit(case.model.apply)(case.params, recorded.batch(case.name)).logits
  real = arrays["mask"] > 0
  # float32 with other orders of summation; logits are of order 1 to 10.
  np.testing.assert_allclose(logits[real], arrays["logits"][real], rtol=1e-4, atol=1e-4)


@pytest.mark.slow  # compiles every layer apart; the live comparison does the same
def test_every_hidden_state_is_that_of_the_original(case: Case) -> None:
  batch, arrays = recorded.batch(case.name), recorded.arrays(case.name)
  theirs = recorded.states(case.name)
  if not theirs:
    pytest.skip("none are recorded")
  ours = jax.jit(lambda params: watched(case.model, params, batch)[1])(case.params)
  assert theirs.keys() == ours.keys()
  for side, states in theirs.items():
    assert len(states) >= len(ours[side]) - 1 > 0  # a last one that theirs projects is left out
    real = batch.get(f"{side}_segment_ids", arrays["mask"]) > 0
    for one, other in zip(ours[side], states, strict=False):
      np.testing.assert_allclose(one[real], other[real], rtol=1e-4, atol=1e-4, err_msg=side)


def test_it_goes_back_bit_for_bit(case: Case, tmp_path: Path) -> None:
  foreign, kept = case.foreign, tmp_path / "kept"
  kept.mkdir()
  (kept / hf.CONFIG).write_text((case.folder / hf.CONFIG).read_text())
  (kept / "layout.json").write_text(json.dumps(foreign.layout))
  hf.FORMAT.write(tmp_path / "back", Export(foreign.build, foreign.arguments, case.params, kept))
  back, there = load_file(tmp_path / "back" / ONE), load_file(case.folder / ONE)
  assert back.keys() == there.keys()
  for name, values in there.items():
    np.testing.assert_array_equal(back[name], values, err_msg=name)
  theirs, ours = (json.loads((p / hf.CONFIG).read_text()) for p in (case.folder, tmp_path / "back"))
  assert theirs == ours


def test_a_config_written_from_arguments_gives_them_back(case: Case, tmp_path: Path) -> None:
  """What was trained here and never came from there can be published too."""
  foreign, params = case.foreign, case.params
  hf.FORMAT.write(tmp_path / "new", Export(foreign.build, foreign.arguments, params))
  again = hf.FORMAT.open(tmp_path / "new")
  assert again.arguments == foreign.arguments
  same = again.params(again.model(), lambda path, values: values)
  jax.tree.map(np.testing.assert_array_equal, params, same)


@pytest.mark.parametrize("name", recorded.NAMES)
def test_the_versions_that_recorded_it_are_told(name: str) -> None:
  assert {"torch", "transformers"} == json.loads(str(recorded.arrays(name)["versions"])).keys()
