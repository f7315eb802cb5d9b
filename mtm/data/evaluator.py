"""A task's own metrics: SeqIO's evaluator around any function from token ids to token ids."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mtm.data._tensorflow import seqio
from mtm.data.registry import find
from mtm.data.sources._records import told_plainly
from mtm.errors import UserError, nearest

Ids = list[int]
Predict = Callable[[list[Ids]], list[Ids]]  # inputs → predictions
Score = Callable[[list[Ids], list[Ids]], list[float]]  # inputs, targets → log-likelihoods


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What to evaluate on. The examples are read once and kept for every `run`.

  Attributes:
    mixture_or_task_name: as registered with SeqIO; of a mixture every task counts alone.
    split: for example "validation".
    task_feature_lengths: what features are trimmed to; None: not at all.
    num_examples: at most so many of each task, from its beginning.
    use_cached: whether to read what `seqio_cache_tasks` has prepared.
    module: import path of a module that registers tasks.
    log_dir: where `<task>-metrics.jsonl`, `<task>-<step>.jsonl` and TensorBoard events go.
    num_results: how many inferences `<task>-<step>.jsonl` holds; None: all.
  """

  mixture_or_task_name: str
  split: str = "validation"
  task_feature_lengths: Mapping[str, int] | None = None
  num_examples: int | None = None
  use_cached: bool = False
  module: str | None = None
  log_dir: str | None = None
  num_results: int | None = None

  def run(
    self, predict: Predict, score: Score | None = None, step: int | None = None
  ) -> dict[str, dict[str, float]]:
    """Task → metric → number.

    Args:
      predict: is given every example's `inputs`, unpadded ids with their end, in order, and returns
        ids for each; what follows an end-of-sequence id is ignored.
      score: is given `inputs` and `targets` and returns a log-likelihood for each; None where
        there is none.
      step: how far the model is trained, for the logs.

    Raises:
      UserError: the task or split is unknown, no task has metrics, there are no examples, or a
        metric needs scores or what nobody here makes.
    """
    evaluator = self._evaluator
    known = seqio().metrics.ModelOutputType
    makers: dict[Any, Callable[[Any], Any]] = {
      known.PREDICTION: functools.partial(_predictions, predict)
    }
    if score is not None:
      makers[known.SCORE] = functools.partial(_scores, score)
    for task in evaluator.eval_tasks:
      for metric in task.metric_objs:
        if metric.model_output_type not in makers:
          raise UserError(
            f"task {task.name!r}: a metric needs the model's {metric.model_output_type.name}, and "
            f"only {', '.join(sorted(m.name for m in makers))} can be given here"
          )
    if self.log_dir:
      pathlib.Path(self.log_dir).mkdir(parents=True, exist_ok=True)
    with told_plainly(), _quiet():
      try:
        found, _ = evaluator.evaluate(compute_metrics=True, step=step, model_fns=makers)
      except ValueError as e:  # SeqIO's, which tells the task; ours beneath tells more
        raise e.__cause__ if isinstance(e.__cause__, UserError) else e from None
      return {task: _numbers(metrics) for task, metrics in found.result().items()}

  @property
  def has_metrics(self) -> bool:
    """Whether a task of this split has a metric. Raises UserError for an unknown task."""
    return any(self.split in task.splits and task.metric_objs for task in self._tasks)

  @functools.cached_property
  def _tasks(self) -> list[Any]:
    return seqio().get_subtasks(find(self.mixture_or_task_name, self.module))

  @functools.cached_property
  def _evaluator(self) -> Any:
    tasks = self._tasks
    splits = {split for task in tasks for split in task.splits}
    if self.split not in splits:
      raise UserError(
        f"{self.mixture_or_task_name!r} has no split {self.split!r}{nearest(self.split, splits)}"
      )
    if not self.has_metrics:
      raise UserError(
        f"no task of {self.mixture_or_task_name!r} has metrics: give its registration metric_fns"
      )
    json_logger = functools.partial(seqio().JSONLogger, write_n_results=self.num_results)
    loggers = [json_logger, seqio().TensorBoardLogger] if self.log_dir else []
    with told_plainly(), _quiet():
      made = seqio().Evaluator(
        mixture_or_task_name=self.mixture_or_task_name,
        feature_converter=_unconverted(),
        eval_split=self.split,
        use_cached=self.use_cached,
        sequence_length=self.task_feature_lengths,
        num_examples=self.num_examples,
        logger_cls=loggers,
        log_dir=self.log_dir,
        async_compute_metrics=False,
      )
    for name, data in made.cached_task_datasets.items():
      if not int(data.cardinality()):
        raise UserError(f"task {name!r} has no examples in its split {self.split!r}")
    return made


def evaluate(
  names: str | Sequence[str],
  predict: Predict,
  score: Score | None = None,
  split: str = "validation",
  task_feature_lengths: Mapping[str, int] | None = None,
  num_examples: int | None = None,
  log_dir: str | None = None,
) -> dict[str, dict[str, float]]:
  """Task → metric → number for these tasks and mixtures; see `Evaluation`."""
  found: dict[str, dict[str, float]] = {}
  for name in [names] if isinstance(names, str) else names:
    evaluation = Evaluation(
      name, split, task_feature_lengths, num_examples=num_examples, log_dir=log_dir
    )
    found |= evaluation.run(predict, score)
  return found


def _unconverted() -> Any:
  """A SeqIO feature converter that leaves a task's features as they are: unpadded ids."""

  base: Any = seqio().PassThroughFeatureConverter

  class Unconverted(base):
    """With the two attributes that the evaluator asks for and SeqIO's class lacks."""

    TASK_FEATURES: Mapping[str, Any] = {}
    pack = False

  return Unconverted()


def _predictions(predict: Predict, examples: Any) -> list[tuple[int, np.ndarray]]:
  """SeqIO's `predict_fn`: rows of one length, padded with 0, each with its example's number."""
  numbers, inputs, _ = _columns(examples)
  made = predict(inputs)
  rows = np.zeros((len(inputs), max(map(len, made), default=0)), np.int32)
  for row, ids in zip(rows, made, strict=True):
    row[: len(ids)] = ids
  return list(zip(numbers, rows, strict=True))


def _scores(score: Score, examples: Any) -> list[tuple[int, float]]:
  """SeqIO's `score_fn`."""
  numbers, inputs, targets = _columns(examples)
  return list(zip(numbers, map(float, score(inputs, targets)), strict=True))


def _columns(examples: Any) -> tuple[list[int], list[Ids], list[Ids]]:
  """Numbers, inputs (empty where the task has none) and targets of enumerated examples."""
  numbers, inputs, targets = [], [], []
  for number, example in examples.as_numpy_iterator():
    numbers.append(int(number))
    inputs.append([int(i) for i in example.get("inputs", ())])
    targets.append([int(i) for i in example["targets"]])
  return numbers, inputs, targets


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
  """The metrics that are numbers; texts and images are only logged."""
  plain = {name: getattr(value, "value", value) for name, value in metrics.items()}
  return {name: float(value) for name, value in plain.items() if np.ndim(value) == 0 and _is(value)}


def _is(value: Any) -> bool:
  return np.issubdtype(np.asarray(value).dtype, np.number)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Without SeqIO's log, which speaks of its own arguments and repeats what is raised."""
  from absl import logging

  before = logging.get_verbosity()
  logging.set_verbosity(logging.FATAL)
  try:
    yield
  finally:
    logging.set_verbosity(before)
