"""The arithmetic of the claim on chains of thought: accuracies by arm and number of people."""

from __future__ import annotations

import json
import pathlib

from benchmarks.claims import _sets
from benchmarks.claims import chain_of_thought as claim

RESULTS = pathlib.Path(claim.__file__).parents[1] / "results" / "claims_chain_of_thought.json"


def test_accuracies_are_told_apart_by_arm_and_number() -> None:
  runs = [
    {"arm": arm, "seed": seed, "cells": [
      {"set": f"coin_flip_of_{n}", "value": value / n} for n in claim.ASKED
    ]}
    for seed, arm, value in ((0, "rationale", 1.0), (0, "direct", 0.5), (1, "rationale", 0.8))
  ]  # fmt: skip
  found = claim.accuracies(runs)
  assert found["rationale"]["2"] == [0.5, 0.4] and found["direct"]["10"] == [0.05]
  assert [int(n) for n in found["direct"]] == list(claim.ASKED)


def test_some_numbers_are_asked_that_were_not_trained_on() -> None:
  assert max(claim.TRAINED) < max(claim.ASKED) <= _sets.PLACES


def test_the_committed_results_are_those_of_the_committed_runs() -> None:
  record = json.loads(RESULTS.read_text())
  assert record["results"] == claim.accuracies(record["runs"])
