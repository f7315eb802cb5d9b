"""Metrics against sacrebleu, rouge-score, closed forms and scipy's bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from mtm.errors import UserError
from mtm.evaluation.metrics import Answer, CalibrationError, find, measured, normalised

WORDS = "a cat sat on the mat while dogs ran over green hills and barked".split()


def texts(count: int, seed: int = 0) -> list[Answer]:
  """Random predictions, each with two references that share words with it."""
  rng = np.random.default_rng(seed)
  drawn = [
    [" ".join(rng.choice(WORDS, rng.integers(3, 12))) for _ in range(3)] for _ in range(count)
  ]
  return [Answer(text, (one, other)) for text, one, other in drawn]


def test_bleu_of_added_up_counts_is_sacrebleu_s() -> None:
  sacrebleu = pytest.importorskip("sacrebleu")
  answers = texts(30)
  references = [[answer.references[i] for answer in answers] for i in range(2)]
  expected = sacrebleu.corpus_bleu([answer.text for answer in answers], references).score
  assert measured(find(["bleu"]), answers, 0)["bleu"] == pytest.approx(expected, rel=1e-12)


def test_rouge_is_the_mean_of_the_best_reference() -> None:
  scorer = pytest.importorskip("rouge_score.rouge_scorer")
  answers = texts(10)
  each = scorer.RougeScorer(["rougeLsum"])
  best = [max(each.score(r, a.text)["rougeLsum"].fmeasure for r in a.references) for a in answers]
  assert measured(find(["rouge"]), answers, 0)["rougeLsum"] == pytest.approx(np.mean(best))


def test_exact_match_and_f1_follow_squad() -> None:
  assert normalised("The  cat's, a Hat!") == "cats hat"
  answers = [
    Answer("The Eiffel tower!", ("eiffel tower", "tower")),
    Answer("a big red dog", ("red dog barks",)),
    Answer("", ("something",)),
    Answer("the", ("",)),
  ]
  got = measured(find(["exact_match", "f1"]), answers, 0)
  assert got == {"exact_match": 0.5, "f1": pytest.approx((1 + 2 * 2 / 6 + 0 + 1) / 4)}


@pytest.mark.parametrize(
  "text, reference, same",
  [
    ("-5", "5", 0),
    ("1,024", "1024", 1),
    ("$3.50.", "3.5", 1),
    ("5 apples", "5", 0),
    ("+7", "7", 1),
  ],
)
def test_numbers_match_by_their_values(text: str, reference: str, same: float) -> None:
  assert measured(find(["exact_match"]), [Answer(text, (reference,))], 0)["exact_match"] == same


def test_accuracy_is_of_choices_or_of_texts() -> None:
  answers = [
    Answer("yes", ("no",), chosen=0, gold=1),
    Answer("no", ("no",), chosen=1, gold=1),
    Answer(" 4\n", ("4",)),
    Answer("four", ("4",)),
  ]
  assert measured(find(["accuracy"]), answers, 0) == {"accuracy": 0.5}


def test_calibration_error_is_that_of_its_definition() -> None:
  rng = np.random.default_rng(0)
  confidence, right = rng.uniform(0, 1, 400), rng.integers(0, 2, 400)
  answers = [Answer(chosen=r, gold=1, confidence=c) for c, r in zip(confidence, right, strict=True)]
  expected, edges = 0.0, np.linspace(0, 1, 11)
  for low, high in zip(edges, edges[1:], strict=False):
    own = (confidence > low) & (confidence <= high)
    expected += own.mean() * abs(right[own].mean() - confidence[own].mean()) if own.any() else 0
  got = measured([CalibrationError(10)], answers, 0)["calibration_error"]
  assert got == pytest.approx(expected, rel=1e-9)
  sure = [Answer(chosen=1, gold=1, confidence=1.0), Answer(chosen=1, gold=1, confidence=0.0)]
  assert measured([CalibrationError(10)], sure, 0)["calibration_error"] == 0.5


def test_perplexity_and_bits_per_byte_are_over_all_tokens() -> None:
  answers = [Answer(likelihood=(-4.0, 2, 8)), Answer(likelihood=(-8.0, 4, 8)), Answer()]
  got = measured(find(["likelihood"]), answers, 0)
  assert got["perplexity"] == pytest.approx(np.exp(2.0))
  assert got["bits_per_byte"] == pytest.approx(12 / np.log(2) / 16)


def test_standard_errors_are_those_of_the_binomial_and_of_scipy() -> None:
  rng = np.random.default_rng(1)
  right = rng.integers(0, 2, 500)
  answers = [Answer(chosen=int(r), gold=1) for r in right]
  got = measured(find(["accuracy"]), answers, 4000)
  p = right.mean()
  assert got["accuracy_stderr"] == pytest.approx(np.sqrt(p * (1 - p) / 500), rel=0.05)
  nats, tokens = rng.normal(-9, 2, 60), rng.integers(2, 9, 60)
  told = [Answer(likelihood=(n, int(t), 4)) for n, t in zip(nats.tolist(), tokens, strict=True)]
  theirs = scipy.stats.bootstrap(
    (nats, tokens), lambda n, t, axis: np.exp(-n.sum(axis) / t.sum(axis)), paired=True,
    n_resamples=4000, vectorized=True, method="percentile", rng=0,
  )  # fmt: skip
  ours = measured(find(["likelihood"]), told, 4000)["perplexity_stderr"]
  assert ours == pytest.approx(theirs.standard_error, rel=0.08)


def test_the_same_answers_have_the_same_standard_errors() -> None:
  answers = [Answer(chosen=i % 2, gold=1) for i in range(20)]
  assert measured(find(["accuracy"]), answers) == measured(find(["accuracy"]), answers)


def test_an_unknown_metric_is_told_with_the_nearest() -> None:
  with pytest.raises(UserError, match="no metric 'acuracy'; did you mean 'accuracy'"):
    find(["acuracy"])
