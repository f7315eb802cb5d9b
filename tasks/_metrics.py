"""Metrics of T5's tasks: `(targets, predictions)` → name → number, mostly per cent."""

from __future__ import annotations

import collections
import re
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mtm.errors import UserError

Scores = dict[str, float]


def accuracy(targets: Sequence[Any], predictions: Sequence[Any]) -> Scores:
  """Per cent of predictions equal to their target."""
  right = [t == p for t, p in zip(targets, predictions, strict=True)]
  return {"accuracy": 100 * float(np.mean(right))}


def sequence_accuracy(targets: Sequence[Any], predictions: Sequence[Any]) -> Scores:
  """Per cent of whole sequences predicted exactly."""
  return {"sequence_accuracy": accuracy(targets, predictions)["accuracy"]}


def f1(targets: Sequence[int], predictions: Sequence[int]) -> Scores:
  """F1 of class 1, in per cent; an invalid prediction (-1) counts as the wrong class."""
  target, guess = np.asarray(targets), _valid(targets, predictions)
  return {"f1": 100 * _f1_of(target == 1, guess == 1)}


def mean_3class_f1(targets: Sequence[int], predictions: Sequence[int]) -> Scores:
  """The unweighted mean of the F1 of classes 0, 1 and 2, in per cent."""
  target, guess = np.asarray(targets), np.asarray(predictions)
  each = [_f1_of(target == c, guess == c) for c in range(3)]
  return {"mean_3class_f1": 100 * float(np.mean(each))}


def matthews(targets: Sequence[int], predictions: Sequence[int]) -> Scores:
  """Matthews' correlation of two classes, times 100; an invalid prediction counts as wrong."""
  target, guess = np.asarray(targets), _valid(targets, predictions)
  both, neither = np.sum(target * guess), np.sum((1 - target) * (1 - guess))
  false, missed = np.sum((1 - target) * guess), np.sum(target * (1 - guess))
  sides = [both + false, both + missed, neither + false, neither + missed]
  below = float(np.sqrt(np.prod(np.asarray(sides, np.float64))))
  above = float(both) * float(neither) - float(false) * float(missed)
  return {"matthews_corrcoef": 100 * above / below if below else 0.0}


def pearson(targets: Sequence[float], predictions: Sequence[float]) -> Scores:
  """Pearson's correlation, times 100; 0 where one side is constant."""
  return {"pearson_corrcoef": 100 * _correlation(np.asarray(targets), np.asarray(predictions))}


def spearman(targets: Sequence[float], predictions: Sequence[float]) -> Scores:
  """Spearman's rank correlation, times 100; 0 where one side is constant."""
  from scipy import stats

  ranks = stats.rankdata(targets), stats.rankdata(predictions)
  return {"spearman_corrcoef": 100 * _correlation(*ranks)}


def squad(targets: Sequence[Sequence[str]], predictions: Sequence[str]) -> Scores:
  """SQuAD's exact match and F1 (1606.05250), in per cent, each against the best of the answers."""
  exact, overlap = [], []
  for answers, guess in zip(targets, predictions, strict=True):
    exact.append(max(_plain(answer) == _plain(guess) for answer in answers))
    overlap.append(max(_overlap(answer, guess) for answer in answers))
  return {"em": 100 * float(np.mean(exact)), "f1": 100 * float(np.mean(overlap))}


def bleu(targets: Sequence[str], predictions: Sequence[str]) -> Scores:
  """sacreBLEU (1804.08771) as T5 sets it: international tokenisation, exponential smoothing.

  Raises:
    UserError: the package sacrebleu is not installed.
  """
  try:
    import sacrebleu
  except ModuleNotFoundError:
    raise UserError("BLEU needs the package sacrebleu: pip install sacrebleu") from None
  score = sacrebleu.corpus_bleu(
    list(predictions), [list(targets)], smooth_method="exp", tokenize="intl"
  )
  return {"bleu": float(score.score)}


def rouge(targets: Sequence[str], predictions: Sequence[str]) -> Scores:
  """The means of ROUGE-1, -2 and -Lsum's F1, in per cent.

  Raises:
    UserError: the package rouge-score is not installed.
  """
  try:
    from rouge_score import rouge_scorer
  except ModuleNotFoundError:
    raise UserError("ROUGE needs the package rouge-score: pip install rouge-score") from None
  keys = ("rouge1", "rouge2", "rougeLsum")
  scorer = rouge_scorer.RougeScorer(list(keys))
  each = [
    scorer.score(_sentences(t), _sentences(p)) for t, p in zip(targets, predictions, strict=True)
  ]
  return {key: 100 * float(np.mean([scores[key].fmeasure for scores in each])) for key in keys}


def best_bleu(targets: Sequence[Sequence[str]], predictions: Sequence[str]) -> Scores:
  """`bleu` against the first of the accepted answers."""
  return bleu([answers[0] for answers in targets], predictions)


def best_rouge(targets: Sequence[Sequence[str]], predictions: Sequence[str]) -> Scores:
  """`rouge` against the first of the accepted answers."""
  return rouge([answers[0] for answers in targets], predictions)


def class_id(names: Sequence[str]) -> Callable[..., int]:
  """A SeqIO postprocessor: a label's text → its number, -1 where it is no label."""

  def number(text: str, **unused: Any) -> int:
    return names.index(text) if text in names else -1

  return number


def to_float(text: str, **unused: Any) -> float:
  """A SeqIO postprocessor: the number that the text writes, -1 where it writes none."""
  try:
    return float(text)
  except ValueError:
    return -1.0


def all_answers(text: str, example: Any = None, is_target: bool = False) -> Any:
  """A SeqIO postprocessor: every accepted answer as the target, the text as the prediction."""
  return [answer.decode() for answer in example["answers"]] if is_target else text


def _valid(targets: Sequence[int], predictions: Sequence[int]) -> np.ndarray:
  """Predictions of two classes, where -1 stands for whatever is wrong."""
  target, guess = np.asarray(targets), np.asarray(predictions)
  return np.where(guess < 0, 1 - target, guess)


def _f1_of(target: np.ndarray, guess: np.ndarray) -> float:
  sides = target.sum() + guess.sum()
  return float(2 * np.sum(target & guess) / sides) if sides else 0.0


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
  a, b = a - a.mean(), b - b.mean()
  below = float(np.sqrt(np.sum(a * a) * np.sum(b * b)))
  return float(np.sum(a * b)) / below if below else 0.0


def _plain(text: str) -> str:
  """SQuAD's normalisation: lower case, no punctuation, no articles, single blanks."""
  text = "".join(c for c in text.lower() if c not in string.punctuation)
  return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _overlap(answer: str, prediction: str) -> float:
  theirs, ours = _plain(answer).split(), _plain(prediction).split()
  shared = sum((collections.Counter(theirs) & collections.Counter(ours)).values())
  return 2 * shared / (len(theirs) + len(ours)) if shared else 0.0


def _sentences(text: str) -> str:
  """One sentence a line, as ROUGE-Lsum wants it."""
  return text.replace(" . ", " .\n")


# Metrics of sets with prompts, by their names there; a target is a list of accepted answers.
OF_ANSWERS = {"f1": squad, "bleu": best_bleu, "rouge": best_rouge}
