"""The arithmetic of the claim on wordings: those seen and those held out."""

from __future__ import annotations

import json
import pathlib

import pytest

from benchmarks.claims import prompt_variety as claim
from mtm.prompts import library

RESULTS = pathlib.Path(claim.__file__).parents[1] / "results" / "claims_prompt_variety.json"


def test_wordings_that_were_held_out_are_counted_apart() -> None:
  values = {"p1": 1.0, "p8": 0.3, "p9": 0.6, "p10": 0.9}
  cells = [{"template": name, "value": value} for name, value in values.items()]
  found = claim.accuracies([{"arm": "2", "seed": seed, "cells": cells} for seed in (0, 1)])
  assert found["seen"] == {"2": [1.0, 1.0]}
  assert found["held out"]["2"] == [pytest.approx(0.6)] * 2


def test_no_run_trains_on_a_wording_that_is_held_out() -> None:
  data = library.find("word_copy", claim.__name__.rpartition(".")[0] + "._sets")
  names = [template.name for template in data.asking()]
  assert names[0] in claim.SEEN and set(names[7:10]) == set(claim.HELD_OUT)


def test_the_committed_results_are_those_of_the_committed_runs() -> None:
  record = json.loads(RESULTS.read_text())
  assert record["results"] == claim.accuracies(record["runs"])
