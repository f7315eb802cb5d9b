"""What a run remembers over interruptions: tokens seen, where the time went, versions, the card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

import mtm
from mtm.report import card, experts, plots
from mtm.training import metrics
from mtm.training.actions import due
from mtm.training.loop import Clock, Run


def ledger(clock: Clock) -> dict[str, float]:
  """Seconds of this process by what they went into."""
  spent = {"compilation": clock.compiled, "training steps": clock.busy, **clock.actions}
  return {name: seconds for name, seconds in spent.items() if seconds}


@dataclasses.dataclass(frozen=True)
class History:
  """The parts of a record that grow from process to process.

  Attributes:
    config: the operative config.
    before: the record that this process began from; empty for a new run.
  """

  config: str
  before: Mapping[str, Any]

  def ledger(self, run: Run) -> dict[str, float]:
    """Seconds by what they went into, over all processes of this MODEL_DIR."""
    return card.added(self.before.get("ledger", {}), ledger(run.clock))

  def record(self, run: Run) -> dict[str, Any]:
    """What lies in a checkpoint beside its arrays."""
    return {
      "config": self.config,
      "tokens": run.tokens,
      "first_step": self.before.get("first_step", 0),
      "special": self.before.get("special", {}),
      "ledger": self.ledger(run),
      "versions": card.versions(jax.devices()[0].device_kind, mtm.__version__),
    }


@dataclasses.dataclass(frozen=True)
class Report:
  """An action: redraws `plots/` and rewrites `card.md` when a checkpoint is due.

  There are `loss.png` and, of a model with experts, `experts.png`.

  Attributes:
    history: what earlier processes did.
    data: the training `Dataset`.
    period: steps between two.
    licences: task → licence, where known.
  """

  history: History
  data: Any
  period: int
  licences: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def __call__(self, run: Run) -> None:
    """See `mtm.training.loop.Action`."""
    if not (run.last or due(run, self.period)) or jax.process_index():
      return
    rows = metrics.read(run.model_dir)
    if rows:
      plots.loss_curve(rows, run.model_dir / "plots" / "loss.png")
      experts.load_map(rows, run.model_dir / "plots" / "experts.png")
    card.Card(
      name=run.model_dir.absolute().name,
      model=run.trainer.model.architecture,
      parameters=parameter_count(run),
      objective=repr(run.trainer.objective),
      data=run.batches.proportions(),
      split=f"{self.data.mixture_or_task_name}, split {self.data.split}",
      licences=self.licences,
      step=run.step,
      tokens=run.tokens,
      held_out=held_out(rows),
      ledger=self.history.ledger(run),
      versions=card.versions(jax.devices()[0].device_kind, mtm.__version__),
    ).write(run.model_dir)


def parameter_count(run: Run) -> int:
  """How many numbers the model holds."""
  return sum(leaf.size for leaf in jax.tree.leaves(run.trainer.shapes.params))


def held_out(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
  """The newest figures of every split but `train`: those that people compare models by."""
  newest: dict[str, dict[str, float]] = {}
  for row in rows:
    if row["split"] != "train":
      told = ("loss", "bits_per_byte", "accuracy")
      newest[row["split"]] = {name: row[name] for name in told if name in row}
  return newest
