"""GShard has the sizes of its paper's table 1."""

from __future__ import annotations

import pytest

from mtm.families.gshard import gshard
from tests.families.test_switch import count


@pytest.mark.parametrize(
  ("name", "billions"), [("12B", 12.5), ("37B", 37), ("150B", 150), ("200B", 200), ("600B", 600)]
)
def test_a_published_size_is_near_what_the_paper_says(name: str, billions: float) -> None:
  assert count(f"gshard/{name}") == pytest.approx(billions * 1e9, rel=0.08)


def test_every_other_layer_of_both_sides_has_experts() -> None:
  module = gshard(4, 16, 4, 8, 24, 40, 4, decoder_layers=3).module
  for tower, layers in ((module.encoder, 4), (module.decoder, 3)):
    kinds = [type(block.channel).__name__ for block in tower.stack.period] * tower.stack.repeats
    assert kinds == ["Mlp" if number % 2 == 0 else "Experts" for number in range(layers)]
