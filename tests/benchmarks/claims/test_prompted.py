"""What the claims on prompts share: means of cells, arms and seeds, runs that go on, pictures."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from benchmarks import _paired
from benchmarks.claims import _prompted

CELLS = [
  {"set": "a", "k": 0, "value": 0.25}, {"set": "a", "k": 1, "value": 1.0},
  {"set": "b", "k": 0, "value": 0.75},
]  # fmt: skip


def test_the_mean_is_that_of_the_cells_that_were_asked_for() -> None:
  assert _prompted.mean(CELLS, k=0) == 0.5 and _prompted.mean(CELLS, set="a", k=1) == 1.0
  with pytest.raises(ValueError, match="no cell has"):
    _prompted.mean(CELLS, set="c")


def test_values_of_an_arm_stand_in_the_order_of_its_seeds() -> None:
  runs = [
    {"arm": arm, "seed": seed, "cells": [{"k": 0, "value": value}]}
    for seed, arm, value in ((0, "x", 0.1), (0, "y", 0.2), (1, "x", 0.3))
  ]

  def of(run: dict[str, Any]) -> dict[int, float]:
    return {0: _prompted.mean(run["cells"])}

  assert _prompted.gathered(runs, "x", of) == {"0": [0.1, 0.3]}


def test_a_run_that_is_there_is_not_run_again(tmp_path: pathlib.Path) -> None:
  told = ["--seeds", "0", "1", "--work", str(tmp_path)]
  arguments = _prompted.parser("about", steps=10, limit=5).parse_args(told)
  done = []

  def one(arm: str, seed: int, home: pathlib.Path) -> dict[str, Any]:
    home.mkdir()
    done.append((arm, seed))
    return {"cells": []}

  runs = _prompted.each(arguments, ["x", "y"], one)
  assert [(run["arm"], run["seed"]) for run in runs] == done
  assert _prompted.each(arguments, ["x", "y"], one) == runs and len(done) == 4


def test_a_picture_and_a_record_are_written(tmp_path: pathlib.Path) -> None:
  curves = [
    _prompted.Curve("measured", {"0": [0.1, 0.2], "1": [0.5, 0.6]}),
    _prompted.Curve("possible", {"0": [0.3], "1": [0.9]}, dashed=True),
  ]
  _prompted.plot({"one": curves, "two": curves}, tmp_path / "a.png", "title", "exemplars")
  assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
  _prompted.write(tmp_path / "a.json", {"x": 1}, [{"arm": "x"}])
  record = json.loads((tmp_path / "a.json").read_text())
  assert record["results"] == {"x": 1} and record["runs"] == [{"arm": "x"}]
  assert "command" in record["machine"]


def test_a_run_that_fails_says_why(tmp_path: pathlib.Path, monkeypatch: Any) -> None:
  class Done:
    returncode, stderr = 1, "error: no set 'x' has prompts\n"

  monkeypatch.setattr(_prompted.subprocess, "run", lambda *_, **__: Done)
  with pytest.raises(_paired.BenchmarkError, match="no set 'x' has prompts"):
    _prompted.ask(tmp_path, tmp_path / "asked", SETS=["x"])
