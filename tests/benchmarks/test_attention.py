"""The benchmarks of attention run, and fit the power law that is there."""

from __future__ import annotations

import json

import pytest

from benchmarks import _attention_mtm, attention_scaling


@pytest.mark.parametrize("work", ["attend", pytest.param("step", marks=pytest.mark.slow)])
def test_prints_the_seconds_of_every_pass(work: str, capsys: pytest.CaptureFixture[str]) -> None:
  _attention_mtm.main(work, "dense", "256", "2")
  said = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert len(said["seconds"]) == 2 and min(said["seconds"]) > 0 and "jax" in said["versions"]


def test_temporaries_of_blocks_are_the_smaller_ones(capsys: pytest.CaptureFixture[str]) -> None:
  sizes = []
  for engine in ("blocks", "dense"):
    _attention_mtm.main("memory", engine, "2048", "1")
    sizes.append(json.loads(capsys.readouterr().out.splitlines()[-1])["bytes"])
  assert sizes[0] < sizes[1] / 4


def test_the_exponent_of_a_power_law_is_found() -> None:
  lengths = [1024, 2048, 4096, 8192]
  assert attention_scaling.exponent(lengths, [n**1.5 for n in lengths]) == pytest.approx(1.5)
