"""T5X's decoder: its published sizes; what it computes is compared in test_decoder_only.py."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mtm.families.t5_decoder import t5_decoder
from mtm.interop._base import shapes

GIN = Path(__file__).parents[2] / "gin" / "families" / "t5_decoder"


@pytest.mark.parametrize(
  ("name", "tied", "count"), [("base", False, 134_307_072), ("xxl", True, 4_762_357_760)]
)
def test_parameter_count_is_the_one_that_t5x_tells(name: str, tied: bool, count: int) -> None:
  """t5x/examples/decoder_only/models/*.gin tell it of models that they were: with relative
  positions in each layer, which the network shares now, and the base with a head of its own."""
  lines = [line.split(" = ") for line in (GIN / f"{name}.gin").read_text().splitlines()]
  sizes = {x[0].strip(): int(x[1]) for x in lines if len(x) == 2 and x[1].isdigit()}
  ours = sum(map(math.prod, shapes(t5_decoder(**sizes, tied=tied)).values()))
  assert ours + (sizes["layers"] - 1) * sizes["heads"] * 32 == count
