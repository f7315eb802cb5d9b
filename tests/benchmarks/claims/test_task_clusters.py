"""The arithmetic of the claim on clusters, and that the one held out is in no tuning."""

from __future__ import annotations

import json
import pathlib

from benchmarks.claims import _sets
from benchmarks.claims import task_clusters as claim

RESULTS = pathlib.Path(claim.__file__).parents[1] / "results" / "claims_task_clusters.json"


def test_questions_and_notes_are_counted_apart() -> None:
  asked, told = claim.ASKED, claim.TOLD
  cells = [{"template": asked, "value": 0.25}, {"template": asked, "value": 0.75},
           {"template": told, "value": 1.0}]  # fmt: skip
  found = claim.accuracies([{"arm": "0", "seed": 0, "cells": cells}])
  assert found == {"questions": {"0": [0.5]}, "notes": {"0": [1.0]}}


def test_every_cluster_but_one_is_tuned_on() -> None:
  known = {f"word_{name}" for name in _sets.CLUSTERS}
  assert {*claim.CLUSTERS, claim.HELD_OUT} == known and claim.HELD_OUT not in claim.CLUSTERS


def test_the_committed_results_are_those_of_the_committed_runs() -> None:
  record = json.loads(RESULTS.read_text())
  assert record["results"] == claim.accuracies(record["runs"])
