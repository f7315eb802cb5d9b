"""Metrics of answers, each with its bootstrap standard error.

A metric turns every answer into a few numbers that add up over answers, and their sums into values.
So a resample of the answers costs a row of a matrix product, whatever the metric. Values are shares
between 0 and 1, but for BLEU (0 to 100), perplexity and bits.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mtm.errors import UserError, nearest

RESAMPLES = 1000
_AT_ONCE = 100  # resamples, to bound memory


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a model answered to one question, and what is right.

  Attributes:
    text: the final answer.
    references: accepted answers.
    chosen: the number of the choice taken; None where it answered freely.
    gold: the number of the right choice, or None.
    confidence: the probability that the model gives its answer, or None.
    likelihood: log-likelihood in nats, tokens and bytes of the right answer, or None.
  """

  text: str = ""
  references: tuple[str, ...] = ()
  chosen: int | None = None
  gold: int | None = None
  confidence: float | None = None
  likelihood: tuple[float, int, int] | None = None

  @property
  def right(self) -> bool:
    """Whether the choice is the right one, or the text exactly one of the accepted answers."""
    if self.chosen is not None:
      return self.chosen == self.gold
    return self.text.strip() in {reference.strip() for reference in self.references}


class Metric(Protocol):
  """One or several numbers about many answers."""

  def of(self, answer: Answer) -> Sequence[float] | None:
    """Statistics that add up over answers, as many for each; None where it does not apply."""

  def values(self, sums: np.ndarray) -> Mapping[str, np.ndarray]:
    """Name → `[...]` values of summed statistics `[..., numbers]`."""


@dataclasses.dataclass(frozen=True)
class Mean:
  """The mean of a number of each answer.

  Attributes:
    name: of the value.
    number: the answer's.
  """

  name: str
  number: Callable[[Answer], float]

  def of(self, answer: Answer) -> Sequence[float] | None:
    """See `Metric.of`."""
    return float(self.number(answer)), 1.0

  def values(self, sums: np.ndarray) -> Mapping[str, np.ndarray]:
    """See `Metric.values`."""
    return {self.name: sums[..., 0] / sums[..., 1]}


@dataclasses.dataclass(frozen=True)
class CalibrationError:
  """Expected calibration error (1706.04599, eq. 3): |accuracy − confidence| over bins of the
  confidence, weighted by what they hold. The k-th of n bins is (k/n, (k+1)/n]."""

  bins: int = 15

  def of(self, answer: Answer) -> Sequence[float] | None:
    """See `Metric.of`."""
    if answer.confidence is None:
      return None
    found = np.zeros((3, self.bins))
    bin_of = int(np.clip(np.ceil(answer.confidence * self.bins) - 1, 0, self.bins - 1))
    found[:, bin_of] = 1.0, answer.confidence, float(answer.right)
    return found.ravel().tolist()

  def values(self, sums: np.ndarray) -> Mapping[str, np.ndarray]:
    """See `Metric.values`."""
    count, confidence, right = np.split(sums, 3, axis=-1)
    return {"calibration_error": np.abs(right - confidence).sum(-1) / count.sum(-1)}


@dataclasses.dataclass(frozen=True)
class Likelihood:
  """Perplexity per token, and bits per byte, of right answers."""

  def of(self, answer: Answer) -> Sequence[float] | None:
    """See `Metric.of`."""
    return answer.likelihood

  def values(self, sums: np.ndarray) -> Mapping[str, np.ndarray]:
    """See `Metric.values`."""
    nats, tokens, size = (sums[..., i] for i in range(3))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
      return {
        "perplexity": np.exp(-nats / tokens), "bits_per_byte": -nats / np.log(2) / size,
      }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Rouge:
  """ROUGE-1, -2 and -Lsum's F1 (rouge-score), the best over references, a mean over answers."""

  def of(self, answer: Answer) -> Sequence[float] | None:
    """See `Metric.of`. Raises UserError where the package rouge-score is missing."""
    scorer = _rouge()
    each = [scorer.score(_lines(r), _lines(answer.text)) for r in answer.references] or [{}]
    best = [max((e[key].fmeasure for e in each if e), default=0.0) for key in ROUGES]
    return *best, 1.0

  def values(self, sums: np.ndarray) -> Mapping[str, np.ndarray]:
    """See `Metric.values`."""
    return {key: sums[..., i] / sums[..., -1] for i, key in enumerate(ROUGES)}


@dataclasses.dataclass(frozen=True)
class Bleu:
  """sacreBLEU (1804.08771) of all answers together, with its own defaults."""

  def of(self, answer: Answer) -> Sequence[float] | None:
    """See `Metric.of`. Raises UserError where the package sacrebleu is missing."""
    if not answer.references:
      return None
    score = _bleu().corpus_score([answer.text], [[reference] for reference in answer.references])
    return *score.counts, *score.totals, score.sys_len, score.ref_len

  def values(self, sums: np.ndarray) -> Mapping[str, np.ndarray]:
    """See `Metric.values`."""
    bleu = _bleu()

    def one(row: np.ndarray) -> float:
      told = [int(x) for x in np.rint(row)]
      return bleu.compute_bleu(told[:4], told[4:8], *told[8:], smooth_method="exp").score

    return {"bleu": np.apply_along_axis(one, -1, sums)}


def exact(answer: Answer) -> float:
  """1 where the text is an accepted answer, else 0: two numbers by their values, other texts by
  SQuAD's rules (1606.05250), which would drop a sign."""
  return float(any(_same(answer.text, reference) for reference in answer.references))


def overlap(answer: Answer) -> float:
  """SQuAD's F1 of words, the best over the accepted answers."""
  ours = collections.Counter(normalised(answer.text).split())

  def against(reference: str) -> float:
    theirs = collections.Counter(normalised(reference).split())
    shared = (ours & theirs).total()
    if not ours or not theirs:  # as in SQuAD 2.0: no answer agrees with no answer alone
      return float(ours == theirs)
    return 2 * shared / (ours.total() + theirs.total())

  return max(map(against, answer.references), default=0.0)


def normalised(text: str) -> str:
  """Lower case, no punctuation, no articles, single blanks."""
  text = "".join(c for c in text.lower() if c not in string.punctuation)
  return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


_NUMBER = re.compile(r"\s*([-+]?)\s*\$?(\d[\d,]*(?:\.\d+)?|\.\d+)\s*[%.]?\s*")


def _same(text: str, reference: str) -> bool:
  numbers = [_NUMBER.fullmatch(one) for one in (text, reference)]
  if numbers[0] and numbers[1]:
    ours, theirs = (float(n[1] + n[2].replace(",", "")) for n in numbers if n)
    return ours == theirs
  return normalised(text) == normalised(reference)


METRICS: Mapping[str, Metric] = {
  "accuracy": Mean("accuracy", lambda answer: float(answer.right)),
  "exact_match": Mean("exact_match", exact),
  "f1": Mean("f1", overlap),
  "rouge": Rouge(),
  "bleu": Bleu(),
  "calibration_error": CalibrationError(),
  "likelihood": Likelihood(),
}
ROUGES = ("rouge1", "rouge2", "rougeLsum")


def find(names: Iterable[str]) -> list[Metric]:
  """The metrics called so. Raises UserError for a name that is none."""
  found = []
  for name in names:
    if name not in METRICS:
      raise UserError(f"there is no metric {name!r}{nearest(name, METRICS)}")
    found.append(METRICS[name])
  return found


def measured(
  metrics: Iterable[Metric], answers: Sequence[Answer], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, float]:
  """Each value, and as `<name>_stderr` the standard deviation of it over bootstrap resamples of the
  answers. A metric is left out where it applies to no answer.

  Args:
    metrics: see `find`.
    answers: at least one.
    resamples: 0: no standard errors.
    seed: decides the resamples.
  """
  found: dict[str, float] = {}
  for metric in metrics:
    told = [row for row in map(metric.of, answers) if row is not None]
    if not told:
      continue
    statistics = np.asarray(told, np.float64)
    found |= {name: float(x) for name, x in metric.values(statistics.sum(0)).items()}
    if resamples:
      drawn = metric.values(_resampled(statistics, resamples, seed))
      found |= {f"{name}_stderr": float(np.std(x, ddof=1)) for name, x in drawn.items()}
  return found


def _resampled(statistics: np.ndarray, resamples: int, seed: int) -> np.ndarray:
  """Sums `[resamples, numbers]` of answers drawn with replacement, as many as there are."""
  rng, count = np.random.default_rng(seed), len(statistics)
  parts = []
  for start in range(0, resamples, _AT_ONCE):
    rows = min(_AT_ONCE, resamples - start)
    times = rng.multinomial(count, np.full(count, 1 / count), size=rows)
    parts.append(times.astype(np.float64) @ statistics)
  return np.concatenate(parts)


def _lines(text: str) -> str:
  """One sentence a line, as ROUGE-Lsum wants it."""
  return text.replace(" . ", " .\n")


@functools.cache
def _rouge() -> Any:
  try:
    from rouge_score import rouge_scorer
  except ModuleNotFoundError:
    raise UserError('ROUGE needs rouge-score: pip install "mtm[eval]"') from None
  return rouge_scorer.RougeScorer(list(ROUGES))


@functools.cache
def _bleu() -> Any:
  try:
    from sacrebleu.metrics import BLEU
  except ModuleNotFoundError:
    raise UserError('BLEU needs sacrebleu: pip install "mtm[eval]"') from None
  return BLEU(force=True)
