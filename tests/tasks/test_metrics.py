"""T5's metrics, against scipy, NumPy and sums by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import stats

from mtm.errors import UserError
from mtm.tasks import _metrics

RNG = np.random.default_rng(0)
TARGETS = RNG.integers(0, 2, 50).tolist()
GUESSES = [int(t if RNG.random() < 0.7 else 1 - t) for t in TARGETS]


def test_accuracy_counts_equal_answers():
  assert _metrics.accuracy(["a", "b", "c"], ["a", "x", "c"])["accuracy"] == pytest.approx(200 / 3)
  assert _metrics.sequence_accuracy(["a", "b"], ["a", "c"]) == {"sequence_accuracy": 50.0}


def test_matthews_is_the_correlation_of_the_bits():
  expected = 100 * np.corrcoef(TARGETS, GUESSES)[0, 1]
  assert _metrics.matthews(TARGETS, GUESSES)["matthews_corrcoef"] == pytest.approx(expected)
  assert _metrics.matthews([0, 1], [1, 1]) == {"matthews_corrcoef": 0.0}


def test_f1_is_the_harmonic_mean_of_precision_and_recall():
  target, guess = np.array(TARGETS), np.array(GUESSES)
  precision, recall = target[guess == 1].mean(), guess[target == 1].mean()
  expected = 100 * 2 * precision * recall / (precision + recall)
  assert _metrics.f1(TARGETS, GUESSES)["f1"] == pytest.approx(expected)
  assert _metrics.f1([0, 0], [0, 0]) == {"f1": 0.0}


def test_an_invalid_answer_counts_as_the_wrong_class():
  for metric in (_metrics.f1, _metrics.matthews):
    assert metric([1, 0, 1, 0], [1, -1, -1, 0]) == metric([1, 0, 1, 0], [1, 1, 0, 0])


def test_mean_f1_is_over_classes():
  # Class 0: 2·1/(1+2); class 1: 2·1/(2+1); class 2: 2·1/(1+1).
  found = _metrics.mean_3class_f1([0, 1, 1, 2], [0, 0, 1, 2])["mean_3class_f1"]
  assert found == pytest.approx(100 * np.mean([2 / 3, 2 / 3, 1]))


def test_correlations_are_scipys():
  a = RNG.normal(size=30).round(1).tolist()
  b = (np.array(a) + RNG.normal(size=30)).round(1).tolist()
  assert _metrics.pearson(a, b)["pearson_corrcoef"] == pytest.approx(100 * stats.pearsonr(a, b)[0])
  expected = 100 * stats.spearmanr(a, b)[0]
  assert _metrics.spearman(a, b)["spearman_corrcoef"] == pytest.approx(expected)
  assert _metrics.pearson([1, 1], [1, 2]) == {"pearson_corrcoef": 0.0}


def test_squad_takes_the_best_answer_and_forgives_articles_case_and_punctuation():
  answers = [["The Cat!", "a dog"], ["New York City"]]
  found = _metrics.squad(answers, ["cat", "in New York"])
  # The second shares two of its three words with the three of the answer.
  assert found == {"em": 50.0, "f1": pytest.approx(100 * (1 + 2 / 3) / 2)}
  assert _metrics.squad([["x"]], ["y"]) == {"em": 0.0, "f1": 0.0}


@pytest.mark.parametrize(
  ("metric", "package"), [(_metrics.bleu, "sacrebleu"), (_metrics.rouge, "rouge_score")]
)
def test_a_metric_whose_package_is_missing_says_what_to_install(monkeypatch, metric, package):
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(UserError, match="pip install"):
    metric(["a"], ["a"])


def test_bleu_and_rouge_of_a_perfect_answer():
  pytest.importorskip("sacrebleu")
  pytest.importorskip("rouge_score")
  text = ["the cat sat on the mat today ."]
  assert _metrics.bleu(text, text)["bleu"] == pytest.approx(100)
  assert list(_metrics.rouge(text, text).values()) == pytest.approx([100, 100, 100])
  assert _metrics.best_bleu([text], text)["bleu"] == pytest.approx(100)
  assert _metrics.best_rouge([[*text, "a dog"]], text)["rouge1"] == pytest.approx(100)


def test_postprocessors_read_labels_numbers_and_answers():
  number = _metrics.class_id(["no", "yes"])
  assert [number("yes", example={}, is_target=True), number("no"), number("maybe")] == [1, 0, -1]
  assert [_metrics.to_float("3.8"), _metrics.to_float("x")] == [3.8, -1.0]
  example = {"answers": np.array([b"a", b"b"], object)}
  assert _metrics.all_answers("c", example, is_target=True) == ["a", "b"]
  assert _metrics.all_answers("c", example, is_target=False) == "c"
