"""PEGASUS: its published size; what it computes is compared in test_recorded.py."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mtm.errors import UserError
from mtm.families.pegasus import pegasus
from mtm.interop import hf
from mtm.interop._base import shapes
from mtm.interop.safetensors import ONE
from mtm.parts.positions.sinusoidal import Sinusoidal
from mtm.programs import published
from tests.families import recorded


def test_parameter_count_is_the_published_one() -> None:
  """google/pegasus-large: 568M in the paper (§6.1); sinusoids are no parameters."""
  model = pegasus(16, 1024, 16, 4096, 96103)
  assert sum(map(math.prod, shapes(model).values())) == 568_699_904


def test_positions_are_sines_and_then_cosines() -> None:
  places = np.array([[0, 1, 5, 1023]])
  added = Sinusoidal(interleaved=False).apply({}, np.zeros((1, 4, 6), np.float32), places,
                                              method="embed")[0]  # fmt: skip
  angle = places[0][:, None] / 10_000 ** (np.arange(3) / 3)
  np.testing.assert_allclose(added, np.concatenate([np.sin(angle), np.cos(angle)], 1), atol=1e-4)


def waves(length: int, width: int) -> np.ndarray:
  """What `transformers` saves: feature by feature, in float64, rounded once."""
  rows = [[p / np.power(10000, 2 * (j // 2) / width) for j in range(width)] for p in range(length)]
  angles = np.array(rows)
  return np.concatenate([np.sin(angles[:, 0::2]), np.cos(angles[:, 1::2])], 1).astype(np.float32)


def with_tables(folder: Path, table: np.ndarray) -> Path:
  """The recorded PEGASUS with its positions saved, as transformers 5 does and 4 did not."""
  recorded.directory("pegasus", folder)
  tables = {f"model.{side}.embed_positions.weight": table for side in ("encoder", "decoder")}
  save_file({**load_file(folder / ONE), **tables}, folder / ONE)
  return folder


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_saved_sinusoids_are_checked(dtype: Any, tmp_path: Path) -> None:
  foreign = hf.FORMAT.open(with_tables(tmp_path / "theirs", waves(24, 12).astype(dtype)))
  params = foreign.params(foreign.model(), lambda path, values: values)
  assert "position" not in params["encoder"]


@pytest.mark.parametrize(
  ("table", "told"),
  [
    (waves(25, 12)[1:], "embed_positions.weight: it differs by 0.96"),  # begins at 1
    (waves(24, 12) + np.float32(1e-4), "it differs by 0.0001"),
    (waves(24, 12).reshape(24, 2, 6).swapaxes(1, 2).reshape(24, 12), "it differs by"),  # pairs
    (waves(23, 12), r"its shape is \(23, 12\)"),
  ],
)
def test_other_positions_are_refused(table: np.ndarray, told: str, tmp_path: Path) -> None:
  foreign = hf.FORMAT.open(with_tables(tmp_path / "theirs", table))
  with pytest.raises(UserError, match=told):
    foreign.params(foreign.model(), lambda path, values: values)


@pytest.mark.parametrize("saved", [True, False])
def test_sinusoids_go_back_where_they_were(saved: bool, tmp_path: Path) -> None:
  source = tmp_path / "theirs"
  if saved:
    with_tables(source, waves(24, 12))
  else:
    recorded.directory("pegasus", source)
  opened = published.open_checkpoint(source)
  params = opened.fill(opened.model(), lambda path, values: values, np.empty)
  published.write(opened, params, "hf", tmp_path / "again")
  before, after = load_file(source / ONE), load_file(tmp_path / "again" / ONE)
  assert before.keys() == after.keys()
  for name, values in before.items():
    np.testing.assert_array_equal(after[name], values, err_msg=name)
