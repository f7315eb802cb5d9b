"""A task's metrics, from plain lists of ids; compared with counting by hand."""

from __future__ import annotations

import json

import pytest

from mtm.data._tensorflow import seqio
from mtm.data.evaluator import Evaluation, evaluate
from mtm.data.sources import files
from mtm.errors import UserError
from tests.data import tiny

ROWS = [("one", "1"), ("two", "22"), ("three", "333"), ("four", "4")]


def exact(targets, predictions):
  return {"exact": sum(t == p for t, p in zip(targets, predictions, strict=True))}


def mean_score(targets, scores):
  return {"mean_score": sum(scores) / len(targets)}


def add(tmp_path, name, metrics):
  path = tmp_path / f"{name}.jsonl"
  path.write_text("".join(json.dumps({"q": q, "a": a}) + "\n" for q, a in ROWS))
  splits = {"train": path, "validation": path}
  files.jsonl_task(
    name, splits, inputs="q", targets="a", vocabulary=tiny.vocabulary(), metrics=metrics
  )


def answers(right: int):
  """Predicts the first `right` examples rightly, with junk after the end, others wrongly."""

  def predict(inputs):
    vocabulary = tiny.vocabulary()
    assert inputs == [[*vocabulary.encode(q), 1] for q, _ in ROWS][: len(inputs)]
    ids = [[*vocabulary.encode(a), 1, 7, 7] for _, a in ROWS[:right]]
    return ids + [[] for _ in inputs[right:]]

  return predict


def test_predictions_and_scores_are_measured_and_logged(tmp_path):
  add(tmp_path, "evaluated", [exact, mean_score])

  def score(inputs, targets):
    assert targets[1] == [*tiny.vocabulary().encode("22"), 1]
    return [-float(len(t)) for t in targets]

  evaluation = Evaluation("evaluated", log_dir=str(tmp_path / "log"), num_results=2)
  lengths = [len(tiny.vocabulary().encode(a)) + 1 for _, a in ROWS]
  expected = {"exact": 3.0, "mean_score": -sum(lengths) / 4}
  assert evaluation.run(answers(3), score, step=7) == {"evaluated": expected}
  assert evaluation.run(answers(1), score, step=8)["evaluated"]["exact"] == 1.0
  logged = (tmp_path / "log" / "evaluated-metrics.jsonl").read_text().splitlines()
  assert [json.loads(line)["exact"] for line in logged] == [3, 1]
  (inferences,) = (tmp_path / "log").glob("evaluated-*7.jsonl")
  written = inferences.read_text().splitlines()
  assert len(written) == 2 and json.loads(written[0])["prediction"] == "1"
  assert list((tmp_path / "log" / "evaluated").glob("events.out.tfevents.*"))


def test_examples_may_be_fewer_and_trimmed(tmp_path):
  add(tmp_path, "evaluated_less", [exact])
  seen = []
  found = evaluate(
    "evaluated_less",
    lambda inputs: seen.extend(inputs) or [[] for _ in inputs],
    task_feature_lengths={"inputs": 2, "targets": 8},
    num_examples=3,
  )
  assert found == {"evaluated_less": {"exact": 0.0}}
  assert len(seen) == 3 and all(len(ids) <= 2 for ids in seen)


def test_every_task_of_a_mixture_counts_alone(tmp_path):
  for name in ("evaluated_a", "evaluated_b"):
    add(tmp_path, name, [exact])
  if "evaluated_mix" in seqio().MixtureRegistry.names():
    seqio().MixtureRegistry.remove("evaluated_mix")
  seqio().MixtureRegistry.add("evaluated_mix", [("evaluated_a", 1), ("evaluated_b", 1)])
  found = evaluate("evaluated_mix", answers(4))
  assert found == {"evaluated_a": {"exact": 4.0}, "evaluated_b": {"exact": 4.0}}


def test_what_is_missing_is_told(tmp_path):
  add(tmp_path, "evaluated_none", [])
  with pytest.raises(UserError, match="no task of 'evaluated_none' has metrics"):
    evaluate("evaluated_none", answers(4))
  add(tmp_path, "evaluated_scores", [mean_score])
  with pytest.raises(UserError, match="needs the model's SCORE, and only PREDICTION"):
    evaluate("evaluated_scores", answers(4))
  with pytest.raises(UserError, match="no split 'valid'; did you mean 'validation'"):
    evaluate("evaluated_scores", answers(4), split="valid")
  with pytest.raises(UserError, match="did you mean 'evaluated_scores'"):
    evaluate("evaluated_score", answers(4))
  (tmp_path / "evaluated_scores.jsonl").write_text("{\n")
  with pytest.raises(UserError, match=r"evaluated_scores.jsonl:1: not JSON .*line$"):
    evaluate("evaluated_scores", answers(4))
