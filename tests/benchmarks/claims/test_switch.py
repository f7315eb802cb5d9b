"""The arithmetic of the Switch claim: when a loss is reached, and what speed-ups follow."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from benchmarks.claims import switch

RESULTS = pathlib.Path(switch.__file__).parents[1] / "results" / "claims_switch.json"


def run(experts: str, losses: list[float], pace: float = 1.0, seed: int = 0) -> dict[str, Any]:
  steps = [50 * (i + 1) for i in range(len(losses))]
  return {
    "experts": experts, "seed": seed, "steps": steps, "losses": losses, "seconds_per_step": pace
  }  # fmt: skip


def test_between_evaluations_a_loss_falls_in_a_straight_line() -> None:
  assert switch.reached([50, 100, 150], [4.0, 3.0, 2.0], 2.5) == 125
  assert switch.reached([50, 100], [4.0, 3.0], 3.0) == 100
  assert switch.reached([50, 100], [4.0, 3.0], 2.9) is None
  assert switch.reached([50, 100], [2.0, 1.0], 3.0) == 50


def test_a_speed_up_is_in_steps_and_its_price_in_seconds() -> None:
  runs = [run("dense", [4.0, 3.5, 3.0]), run("8", [3.5, 3.0, 2.5], pace=1.25)]
  row = switch.speed_ups(runs)["8"]
  assert row["step_speed_up"] == [1.5] and row["time"] == [pytest.approx(1.2)]
  assert switch.speed_ups(runs)["dense"]["step_speed_up"] == [1.0]


def test_a_loss_that_is_never_reached_has_no_speed_up() -> None:
  runs = [run("dense", [4.0, 3.0]), run("8", [5.0, 4.0])]
  assert switch.speed_ups(runs)["8"]["step_speed_up"] == [None]


def test_the_committed_results_are_those_of_the_committed_runs() -> None:
  record = json.loads(RESULTS.read_text())
  assert record["results"] == switch.speed_ups(record["runs"])
