"""Every published family against what `transformers` computed (tests/parity/record.py)."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from mtm.interop import hf
from mtm.interop._base import Export
from mtm.interop.safetensors import ONE
from tests.families import recorded
from tests.families.states import watched


@pytest.fixture(params=recorded.NAMES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
  """The original as a directory, and its name."""
  return recorded.directory(request.param, tmp_path / "theirs"), request.param


def test_logits_are_those_of_the_original_and_it_goes_back_bit_for_bit(
  case: tuple[Path, str], tmp_path: Path
) -> None:
  folder, name = case
  arrays = recorded.arrays(name)
  foreign = hf.FORMAT.open(folder)
  model = foreign.model(dropout=0.0)
  params = foreign.params(model, lambda path, values: values)
  logits = jax.jit(model.apply)(params, recorded.batch(name)).logits
  real = arrays["mask"] > 0
  # float32 with other orders of summation; logits are of order 1 to 10.
  np.testing.assert_allclose(logits[real], arrays["logits"][real], rtol=1e-4, atol=1e-4)

  kept = tmp_path / "kept"
  kept.mkdir()
  (kept / hf.CONFIG).write_text((folder / hf.CONFIG).read_text())
  (kept / "layout.json").write_text(json.dumps(foreign.layout))
  hf.FORMAT.write(tmp_path / "back", Export(foreign.build, foreign.arguments, params, kept))
  back, there = load_file(tmp_path / "back" / ONE), load_file(folder / ONE)
  assert back.keys() == there.keys()
  for name, values in there.items():
    np.testing.assert_array_equal(back[name], values, err_msg=name)
  theirs, ours = (json.loads((p / hf.CONFIG).read_text()) for p in (folder, tmp_path / "back"))
  assert theirs == ours


@pytest.mark.parametrize("name", [n for n in recorded.NAMES if recorded.states(n)])
def test_every_hidden_state_is_that_of_the_original(name: str, tmp_path: Path) -> None:
  foreign = hf.FORMAT.open(recorded.directory(name, tmp_path / "theirs"))
  model = foreign.model(dropout=0.0)
  params = foreign.params(model, lambda path, values: values)
  batch, arrays = recorded.batch(name), recorded.arrays(name)
  ours = jax.jit(lambda params: watched(model, params, batch)[1])(params)
  theirs = recorded.states(name)
  assert theirs.keys() == ours.keys()
  for side, states in theirs.items():
    assert len(states) >= len(ours[side]) - 1 > 0  # a last one that theirs projects is left out
    real = batch.get(f"{side}_segment_ids", arrays["mask"]) > 0
    for one, other in zip(ours[side], states, strict=False):
      np.testing.assert_allclose(one[real], other[real], rtol=1e-4, atol=1e-4, err_msg=side)


def test_a_config_written_from_arguments_gives_them_back(
  case: tuple[Path, str], tmp_path: Path
) -> None:
  """What was trained here and never came from there can be published too."""
  folder, _ = case
  foreign = hf.FORMAT.open(folder)
  params = foreign.params(foreign.model(), lambda path, values: values)
  hf.FORMAT.write(tmp_path / "new", Export(foreign.build, foreign.arguments, params))
  again = hf.FORMAT.open(tmp_path / "new")
  assert again.arguments == foreign.arguments
  same = again.params(again.model(), lambda path, values: values)
  jax.tree.map(np.testing.assert_array_equal, params, same)


@pytest.mark.parametrize("name", recorded.NAMES)
def test_the_versions_that_recorded_it_are_told(name: str) -> None:
  assert {"torch", "transformers"} == json.loads(str(recorded.arrays(name)["versions"])).keys()
