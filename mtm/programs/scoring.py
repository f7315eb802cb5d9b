"""The metrics that a task itself defines, computed on what the model generates or scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax

from mtm.data.pipeline import Dataset
from mtm.decoding import Policy
from mtm.decoding.greedy import Greedy
from mtm.programs.generation import Generator
from mtm.programs.modes import Score, Setting
from mtm.sharding.plan import Plan
from mtm.training.actions import due
from mtm.training.loop import Run
from mtm.training.metrics import MetricsWriter
from mtm.types import Model, Params


@dataclasses.dataclass
class TaskMetrics:
  """Runs each task's SeqIO metric functions; also an action of a training run.

  Results go into `metrics.jsonl` with the task's name as the split, and what the model said into
  `inference_eval/<task>-<step>.jsonl`.

  Attributes:
    data: which task or mixture, split and feature lengths; `batch_size` examples go together.
    period: steps between two evaluations, as an action; 0: at the end only.
    policy: how the next token is chosen.
    max_length: the most tokens to generate; None: the task's target length.
    num_examples: at most so many of each task; None: all.
    num_results: how many examples' outputs are written; None: all.
    bidirectional_prefix: whether a decoder reads its inputs in both directions (prefix LM).
  """

  data: Dataset
  period: int = 0
  policy: Policy = Greedy()  # noqa: RUF009 (frozen)
  max_length: int | None = None
  num_examples: int | None = None
  num_results: int | None = None
  bidirectional_prefix: bool = False
  _evaluation: Any = None

  def __call__(self, run: Run) -> None:
    """See `mtm.training.loop.Action`."""
    if not due(run, self.period) or not run.step:
      return
    run.sync()
    trainer = run.trainer
    with run.clock.measure("task metrics"):
      found = self.measure(
        trainer.model, trainer.plan, run.state.params, run.step, run.model_dir, run.begin_id
      )
    if jax.process_index() == 0:
      with MetricsWriter(run.model_dir, tensorboard=False) as writer:
        for task, values in found.items():
          writer.write(run.step, task, values)
    for task, values in found.items():
      run.note(f"step {run.step}: {task} " + ", ".join(f"{k} {v:.3f}" for k, v in values.items()))

  def measure(
    self,
    model: Model,
    plan: Plan,
    params: Params,
    step: int,
    home: Path,
    begin_id: int | None = 0,
  ) -> dict[str, dict[str, float]]:
    """Task → metric → number; nothing for tasks without metrics.

    Args:
      model, plan, params: what is measured, and where it lies.
      step: how far it is trained, for the logs.
      home: where `inference_eval/` goes.
      begin_id: what the model's decoder begins with, see `Generator`.
    """
    evaluation = self._evaluation or self._make(home)
    if not evaluation.has_metrics:
      return {}
    vocabulary = self.data.vocabulary()
    length = self.max_length or self.data.lengths["targets"]
    rows, both = self.data.batch_size, self.bidirectional_prefix
    setting = Setting(model, params, plan, vocabulary, rows, both, begin_id=begin_id)
    generator = Generator(
      model, plan, self.policy, length, vocabulary.eos_id, rows, bidirectional_prefix=both,
      begin_id=begin_id,
    )  # fmt: skip

    def predict(inputs: list[list[int]]) -> list[list[int]]:
      asked = map(self.data.asked, inputs)
      return [best[0].tokens for best in generator(params, enumerate(asked))]

    def score(inputs: list[list[int]], targets: list[list[int]]) -> list[float]:
      pairs = zip(inputs, targets, strict=True)
      examples = ({"inputs_ids": self.data.asked(i), "targets_ids": t} for i, t in pairs)
      return [row["score"] for row in Score().rows(setting, enumerate(examples))]

    return evaluation.run(predict, score, step)

  def _make(self, home: Path) -> Any:
    from mtm.data.evaluator import Evaluation

    self._evaluation = Evaluation(
      self.data.mixture_or_task_name,
      self.data.split,
      self.data.lengths,
      self.num_examples,
      module=self.data.module,
      log_dir=str(home / "inference_eval"),
      num_results=self.num_results,
    )
    return self._evaluation
