"""mtm's side of the speed benchmarks runs, with the same sizes as its rival's."""

from __future__ import annotations

import json

import pytest

from benchmarks import _mtm
from benchmarks._sizes import SIZES


@pytest.mark.parametrize("family", ["gpt2", pytest.param("t5", marks=pytest.mark.slow)])
@pytest.mark.parametrize("work", [pytest.param("train", marks=pytest.mark.slow), "decode"])
def test_prints_the_seconds_of_every_step(
  work: str, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
  _mtm.main(work, family, "tiny", "2")
  said = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert len(said["seconds"]) == 2 and min(said["seconds"]) > 0 and "jax" in said["versions"]


def test_ids_avoid_padding_and_end() -> None:
  ids = _mtm.tokens(SIZES["tiny"], 16)
  assert ids.min() >= 2 and ids.max() < SIZES["tiny"].vocab


def test_a_switch_has_experts_in_every_second_layer() -> None:
  model, _ = _mtm.build("switch", SIZES["tiny"])
  assert [type(block.channel).__name__ for block in model.module.encoder.stack.period] == [
    "Mlp",
    "Experts",
  ]
