"""A task's own metrics see what the model says and how likely it finds the targets."""

from __future__ import annotations

import functools
import json
import types

import jax
import numpy as np
import pytest
import scipy.special

from mtm.data.pipeline import Dataset
from mtm.data.sources import files
from mtm.data.vocabulary import Bytes, terminated
from mtm.families.llama import llama
from mtm.programs.scoring import TaskMetrics
from mtm.training import loop
from mtm.training.loop import Run
from mtm.training.metrics import MetricsWriter, read
from tests.decoding.models import likeliest, sharpened
from tests.training import tiny

ROWS = [("one", "1"), ("two", "22"), ("three", "333")]
LENGTHS = {"inputs": 8, "targets": 4}
VOCABULARY = Bytes(0)


@functools.cache
def decoder():
  """A tiny decoder of bytes and parameters that make it prefer something."""
  model = llama(2, 8, 2, 24, VOCABULARY.vocab_size)
  return model, sharpened(model)


def task(tmp_path, name, *metrics):
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(json.dumps({"q": q, "a": a}) + "\n" for q, a in ROWS))
  files.jsonl_task(
    name, {"validation": path}, inputs="q", targets="a", vocabulary=VOCABULARY, metrics=metrics
  )
  return Dataset(name, LENGTHS, "validation", batch_size=2)


def log_probs(line, begin=0):
  """The model's, in float64, of what follows each prefix of a line: `[len(line), vocab]`."""
  model, params = decoder()
  tokens = np.zeros((1, 16), np.int32)
  tokens[0, 0], tokens[0, 1 : len(line)] = begin, line[:-1]
  logits = jax.jit(model.apply)(params, {"decoder_input_tokens": tokens}).logits[0, : len(line)]
  return scipy.special.log_softmax(np.asarray(logits, np.float64), axis=-1)


def test_metrics_get_the_likeliest_words_and_the_targets_log_likelihood(tmp_path):
  seen = {}

  def said(targets, predictions):
    seen.update(zip(targets, predictions, strict=True))
    return {"said": len(predictions)}

  def likelihood(targets, scores):
    return {"likelihood": float(np.mean(scores))}

  model, params = decoder()
  metrics = TaskMetrics(task(tmp_path, "scored", said, likelihood), max_length=6)
  found = metrics.measure(model, tiny.one_device(), params, 7, tmp_path)

  scores = []
  for inputs, targets in ROWS:
    question, answer = terminated(VOCABULARY, inputs), terminated(VOCABULARY, targets)
    expected = VOCABULARY.decode(likeliest(model, params, question, 6))
    assert seen[targets] == expected and expected
    told = log_probs([*question, *answer])[len(question) :]
    scores.append(sum(row[token] for row, token in zip(told, answer, strict=True)))
  # Float32 sums of a few log-probabilities, in another order.
  expected = {"said": 3, "likelihood": pytest.approx(np.mean(scores), rel=1e-4)}
  assert found == {"scored": expected}
  (rows,) = (tmp_path / "inference_eval").glob("scored-*7.jsonl")
  assert len(rows.read_text().splitlines()) == len(ROWS)


def test_the_decoder_begins_as_it_was_trained(tmp_path):
  seen = []

  def likelihood(targets, scores):
    seen.append(float(np.mean(scores)))
    return {"likelihood": seen[-1]}

  model, params = decoder()
  metrics = TaskMetrics(task(tmp_path, "scored_after", likelihood), max_length=6)
  for begin in (0, 7):
    metrics.measure(model, tiny.one_device(), params, 7, tmp_path, begin)
  scores = []
  for inputs, targets in ROWS:
    question, answer = terminated(VOCABULARY, inputs), terminated(VOCABULARY, targets)
    told = log_probs([*question, *answer], 7)[len(question) :]
    scores.append(sum(row[token] for row, token in zip(told, answer, strict=True)))
  assert seen[1] == pytest.approx(np.mean(scores), rel=1e-4) and seen[0] != seen[1]


def test_a_task_without_metrics_costs_nothing(tmp_path):
  metrics = TaskMetrics(task(tmp_path, "scored_nothing"))
  model, _ = decoder()
  # Without parameters nothing could be generated.
  assert metrics.measure(model, tiny.one_device(), None, 7, tmp_path) == {}
  assert not (tmp_path / "inference_eval").exists()


class Fixed:
  """An evaluation with one answer that needs no model."""

  has_metrics = True

  def __init__(self):
    self.steps = []

  def run(self, predict, score, step):
    self.steps.append(step)
    return {"squad": {"f1": 0.5, "em": 0.25}, "sst2": {"accuracy": 1.0}}


def action(period=0):
  data = types.SimpleNamespace(vocabulary=lambda: VOCABULARY, lengths=LENGTHS, batch_size=2)
  return TaskMetrics(data, period, _evaluation=Fixed())


def run_at(step, home, **fields):
  trainer = types.SimpleNamespace(model=decoder()[0], plan=tiny.one_device())
  state = types.SimpleNamespace(params=None)
  return Run(trainer, None, state, step, 12, model_dir=home, **fields)


class TestAction:
  def test_every_task_has_its_line_and_its_note(self, tmp_path):
    notes = []
    run = run_at(12, tmp_path, note=notes.append)
    action()(run)
    assert read(tmp_path) == [
      {"step": 12, "split": "squad", "f1": 0.5, "em": 0.25},
      {"step": 12, "split": "sst2", "accuracy": 1.0},
    ]
    assert notes == ["step 12: squad f1 0.500, em 0.250", "step 12: sst2 accuracy 1.000"]
    assert run.clock.actions.keys() == {"task metrics"}

  @pytest.mark.parametrize(("period", "expected"), [(5, [5, 10, 12]), (0, [12])])
  def test_it_runs_every_period_and_at_the_end(self, tmp_path, period, expected):
    metrics = action(period)
    for step in range(13):
      metrics(run_at(step, tmp_path, note=lambda text: None))
    assert metrics._evaluation.steps == expected

  def test_an_interrupted_run_does_not_wait_for_it(self, tmp_path):
    metrics = action(5)
    metrics(run_at(7, tmp_path, stop="SIGTERM"))
    assert metrics._evaluation.steps == []
    metrics(run_at(7, tmp_path, stop=loop.ENDED, note=lambda text: None))
    assert metrics._evaluation.steps == [7]

  def test_lines_of_the_run_stand_before_and_stay(self, tmp_path):
    """The run's own writer has the file open at the same time."""
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
      run = run_at(12, tmp_path, note=lambda text: None)
      run.pending = lambda: writer.write(12, "train", {"loss": 1.0})
      action()(run)
      writer.write(13, "train", {"loss": 2.0})
    assert [row["split"] for row in read(tmp_path)] == ["train", "squad", "sst2", "train"]


def test_a_task_with_a_label_has_no_texts_to_measure(tmp_path):
  data = Dataset("stdlib_packages", {"inputs": 16}, "validation")
  model, params = decoder()
  assert TaskMetrics(data).measure(model, None, params, 1, tmp_path) == {}
