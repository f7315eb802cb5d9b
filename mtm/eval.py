"""`mtm eval`: a checkpoint's loss, bits per byte and task metrics on held-out data; its answers to
few-shot questions; and lm-evaluation-harness's tasks."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from mtm import config
from mtm.data.pipeline import Dataset
from mtm.errors import UserError
from mtm.evaluation.fewshot import FewShot
from mtm.programs import asking, harness, published, scoring, setup
from mtm.sharding.mesh import Mesh
from mtm.sharding.rules import Rule
from mtm.training import checkpoint
from mtm.training.actions import described, measure
from mtm.training.metrics import MetricsWriter
from mtm.training.trainer import Evaluator
from mtm.types import Model, Objective

Results = Mapping[str, Mapping[str, float]]  # split → name → number


def evaluate(
  mesh: Mesh,
  checkpoint_path: str,
  output_dir: str,
  model: Model | None = None,
  objective: Objective | None = None,
  data: Dataset | None = None,
  metrics: scoring.TaskMetrics | None = None,
  fewshot: FewShot | None = None,
  rules: Mapping[str, Rule] | None = None,
) -> None:
  """Measures a checkpoint and writes `output_dir/metrics.jsonl`.

  Args:
    mesh: where to run it.
    checkpoint_path: a MODEL_DIR, one checkpoint of it, or that of another library, which is step 0.
    output_dir: where results go.
    model, objective, data: what was trained, on what, and what is held out; None: no loss.
    metrics: how the metrics that the task itself defines are computed; None: they are not.
    fewshot: the questions that the model is asked, see `docs/evaluation.md`; None: none.
    rules: which mesh axes cut what, see `mtm.sharding.rules`; None: its table.
  """
  setup.start()
  foreign = published.open_foreign(checkpoint_path) is not None
  step = 0 if foreign else int(checkpoint.find(checkpoint_path).name)
  home = Path(output_dir)
  found: Results = {}
  if data is not None:
    if model is None or objective is None:
      raise UserError("held-out data are read for a model and an objective: give MODEL, OBJECTIVE")
    where = (mesh, rules, checkpoint_path)
    found = _held_out(*where, home, model, objective, data, metrics, step)
  asked = asking.run(fewshot, checkpoint_path, mesh, home) if fewshot is not None else {}
  if not found and not asked:
    raise UserError(
      "nothing is measured: give data (runs/eval.gin) or questions (runs/fewshot.gin)"
    )
  if jax.process_index() == 0:
    with MetricsWriter(home, tensorboard=data is not None) as writer:
      writer.truncate(step - 1)
      for split, numbers in {**found, **asked}.items():
        writer.write(step, split, numbers)
    for split, numbers in found.items():  # answers have been shown in tables
      print(f"step {step}: {split} {described(numbers) or numbers}")
    (home / "config.gin").write_text(config.current_text())


def _held_out(
  mesh: Mesh, rules: Mapping[str, Rule] | None, path: str, home: Path, model: Model,
  objective: Objective, data: Dataset, metrics: scoring.TaskMetrics | None, step: int,
) -> Results:  # fmt: skip
  setup.check(model, objective, data)
  special = published.special(path)
  data = data.beginning(special.fed(model, path))
  plan, params = published.parameters(model, mesh, path, rules)
  results = {data.split: measure(Evaluator(model, objective, plan), params, data)}
  if metrics is not None:
    results |= metrics.measure(model, plan, params, step, home, special.begin_id)
  return results


def main(argv: Sequence[str] | None = None) -> int:
  """The command line, see `mtm eval --help`; with `--lm_eval=TASKS` see `mtm.programs.harness`."""
  given = sys.argv[1:] if argv is None else list(argv)
  if harness.asked(given):
    return harness.main(given)
  return config.main(evaluate, given)


if __name__ == "__main__":
  from mtm import cli

  sys.exit(cli.main(["eval", *sys.argv[1:]]))
