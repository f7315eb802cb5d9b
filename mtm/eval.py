"""`mtm eval`: a checkpoint's loss, bits per byte and task metrics on held-out data."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from mtm import config
from mtm.data.pipeline import Dataset
from mtm.programs import published, scoring, setup
from mtm.sharding.mesh import Mesh
from mtm.training import checkpoint
from mtm.training.actions import described, measure
from mtm.training.metrics import MetricsWriter
from mtm.training.trainer import Evaluator
from mtm.types import Model, Objective


def evaluate(
  model: Model,
  objective: Objective,
  mesh: Mesh,
  data: Dataset,
  checkpoint_path: str,
  output_dir: str,
  metrics: scoring.TaskMetrics | None = None,
) -> None:
  """Measures a checkpoint and writes `output_dir/metrics.jsonl`.

  Args:
    model, objective, mesh: what was trained, on what, and where to run it.
    data: what is held out.
    checkpoint_path: a MODEL_DIR, one checkpoint of it, or that of another library, which is step 0.
    output_dir: where results go.
    metrics: how the metrics that the task itself defines are computed; None: they are not.
  """
  setup.start()
  setup.check(model, objective, data)
  special = published.special(checkpoint_path)
  data = data.beginning(special.fed(model, checkpoint_path))
  plan, params = published.parameters(model, mesh, checkpoint_path)
  foreign = published.open_foreign(checkpoint_path) is not None
  step = 0 if foreign else int(checkpoint.find(checkpoint_path).name)
  values = measure(Evaluator(model, objective, plan), params, data)
  home = Path(output_dir)
  results = {data.split: values}
  if metrics is not None:
    results |= metrics.measure(model, plan, params, step, home, special.begin_id)
  if jax.process_index() == 0:
    with MetricsWriter(home) as writer:
      writer.truncate(step - 1)
      for split, numbers in results.items():
        writer.write(step, split, numbers)
        print(f"step {step}: {split} {described(numbers) or numbers}")
    (home / "config.gin").write_text(config.current_text())


def main(argv: Sequence[str] | None = None) -> int:
  """The command line, see `mtm eval --help`."""
  return config.main(evaluate, argv)


if __name__ == "__main__":
  from mtm import cli

  sys.exit(cli.main(["eval", *sys.argv[1:]]))
