"""What every format asks of a model."""

from __future__ import annotations

from mtm.families.gpt2 import gpt2
from mtm.interop._base import shapes


def test_a_model_of_a_few_places_has_its_shapes() -> None:
  found = shapes(gpt2(1, 8, 2, 11, max_length=3))
  assert found["tokens/embedding"] == (11, 8)
  assert (3, 8) in found.values(), "the table of positions"
