"""The claim on exemplars: what could be known from them, and accuracies by their number."""

from __future__ import annotations

import json
import pathlib

from benchmarks.claims import fewshot_format as claim

RESULTS = pathlib.Path(claim.__file__).parents[1] / "results" / "claims_fewshot_format.json"


def test_an_exemplar_with_a_mark_leaves_nothing_to_guess() -> None:
  assert claim.guessed([("abd", "!")], "edd", "!") == claim.guessed([("abd", "!")], "bad", "-") == 1
  assert claim.guessed([("abd", "!")], "edd", "?") == 0


def test_of_rules_that_fit_the_best_guess_is_what_most_of_them_say() -> None:
  assert claim.guessed([("bad", "-")], "dad", "-") == 1
  assert claim.guessed([("bad", "-")], "add", "!") == 1 / 6 == claim.guessed([], "add", "?")


def test_more_exemplars_leave_less_to_guess() -> None:
  found = [claim.possible(k, 10) for k in (0, 1, 4)]
  assert found[0] < 0.7 < found[1] < found[2] <= 1.0


def test_accuracies_are_means_over_rules_for_every_seed() -> None:
  runs = [
    {"arm": arm, "seed": seed, "cells": [{"set": name, "k": k, "value": value} for k in claim.ASKED
                                         for name, value in (("a", 0.0), ("b", high))]}
    for seed, arm, high in ((0, "with exemplars", 1.0), (0, "without", 0.5),
                            (1, "with exemplars", 0.5))
  ]  # fmt: skip
  found = claim.accuracies(runs)
  assert found["with exemplars"]["8"] == [0.5, 0.25] and found["without"]["0"] == [0.25]


def test_the_committed_results_are_those_of_the_committed_runs() -> None:
  record = json.loads(RESULTS.read_text())
  measured = {arm: points for arm, points in record["results"].items() if arm != "possible"}
  assert measured == claim.accuracies(record["runs"])
