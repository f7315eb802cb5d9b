"""The heat map of experts: what it shows is what the metrics say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mtm.report.experts import _fewer, load_map, loads


def rows(steps: int, layers: int, experts: int) -> list[dict[str, Any]]:
  rng = np.random.default_rng(0)
  place = "encoder/block_1/channel"
  out = []
  for step in range(1, steps + 1):
    load = rng.dirichlet(np.ones(experts), layers)
    out.append({
      "step": step, "split": "train", "loss": 1.0,
      f"{place}/load": load.tolist(),
      f"{place}/load_entropy": [0.9] * layers,
      f"{place}/dropped": [0.1] * layers,
      f"{place}/dead": [0.0] * layers,
    })  # fmt: skip
  return out


def test_an_even_load_is_one_everywhere() -> None:
  even = {"step": 3, "split": "train", "decoder/block_0/channel/load": [[0.25] * 4] * 2}
  found = loads([even])
  assert set(found) == {("decoder/block_0", 0), ("decoder/block_0", 1)}
  steps, load = found["decoder/block_0", 1]
  assert steps.tolist() == [3] and load.tolist() == [[1.0] * 4]


def test_of_two_rows_for_a_step_the_later_counts() -> None:
  first = {"step": 1, "split": "train", "a/channel/load": [1.0, 0.0]}
  second = {"step": 1, "split": "train", "a/channel/load": [0.5, 0.5]}
  assert loads([first, second])["a", 0][1].tolist() == [[1.0, 1.0]]


def test_many_experts_are_averaged_and_none_is_lost() -> None:
  load = np.arange(10.0).reshape(1, 10)
  assert _fewer(load, 5, 1).tolist() == [[0.5, 2.5, 4.5, 6.5, 8.5]]
  assert _fewer(load, 20, 1) is load


def test_a_picture_is_drawn(tmp_path: Path) -> None:
  path = load_map(rows(30, 3, 8), tmp_path / "plots" / "experts.png")
  assert path is not None and path.read_bytes().startswith(b"\x89PNG")


def test_a_run_without_experts_has_no_picture(tmp_path: Path) -> None:
  assert load_map([{"step": 1, "split": "train", "loss": 2.0}], tmp_path / "experts.png") is None
  assert not (tmp_path / "experts.png").exists()
