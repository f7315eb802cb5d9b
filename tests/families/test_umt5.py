"""UMT5: its published size; what it computes is compared in test_recorded.py."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mtm.errors import UserError
from mtm.families.t5 import t5
from mtm.families.umt5 import umt5
from mtm.interop import hf
from mtm.interop._base import Export, shapes
from tests.families import recorded


def test_parameter_count_is_the_published_one() -> None:
  """google/umt5-small: mT5's two tables of biases are one for each of 16 layers."""
  model = umt5(8, 512, 6, 64, 1024, 256384)
  assert sum(map(math.prod, shapes(model).values())) == 306_601_984


def test_it_is_not_written_as_a_t5(tmp_path: Path) -> None:
  """Their T5 would drop the tables of all layers but the first."""
  foreign = hf.FORMAT.open(recorded.directory("umt5", tmp_path / "theirs"))
  arguments = {**foreign.arguments, "layer_bias": True}
  params = foreign.params(t5(**arguments), lambda path, values: values)
  with pytest.raises(UserError, match="no name for decoder/stack/period_0/mixer/position"):
    hf.FORMAT.write(tmp_path / "ours", Export(t5, arguments, params))
