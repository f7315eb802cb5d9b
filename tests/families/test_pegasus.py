"""PEGASUS: its published size; what it computes is compared in test_recorded.py."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from mtm.families.pegasus import pegasus
from mtm.interop import hf
from mtm.interop._base import shapes
from mtm.interop.safetensors import ONE
from mtm.parts.positions.sinusoidal import Sinusoidal
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


def test_saved_tables_of_sinusoids_are_passed_over(tmp_path: Path) -> None:
  """transformers 5 saves them, 4 did not."""
  folder = recorded.directory("pegasus", tmp_path / "theirs")
  table = np.zeros((24, 12), np.float32)
  tables = {f"model.{side}.embed_positions.weight": table for side in ("encoder", "decoder")}
  save_file({**load_file(folder / ONE), **tables}, folder / ONE)
  foreign = hf.FORMAT.open(folder)
  params = foreign.params(foreign.model(), lambda path, values: values)
  assert "position" not in params["encoder"]
