"""Few-shot questions to a checkpoint: answers, tables and a picture in one directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax

from mtm.evaluation.fewshot import FewShot
from mtm.programs.handle import load
from mtm.report import fewshot as report
from mtm.report import tables
from mtm.sharding.mesh import Mesh


def run(
  questions: FewShot, checkpoint_path: str, mesh: Mesh | None, home: Path
) -> dict[str, Mapping[str, float]]:
  """Asks, shows a table for each cluster, and draws `plots/fewshot.png`.

  Args:
    questions: what is asked.
    checkpoint_path: any checkpoint that `mtm.load` takes.
    mesh: the devices; None: all.
    home: where `answers.jsonl`, `results.json` and `plots/` go.

  Returns:
    `<set>/<k>shot` → metric → its mean over templates and seeds.
  """
  questions.chosen()  # a name that does not exist is told before the parameters are read
  first = jax.process_index() == 0
  handle = load(checkpoint_path, mesh)
  rows = -(-questions.batch_size // handle.plan.rows) * handle.plan.rows
  handle = dataclasses.replace(handle, batch_size=rows)
  results = questions.run(handle, home, print if first else _silent)
  if first:
    for table in report.cluster_tables(results):
      tables.show(table)
    name = Path(checkpoint_path).name
    report.shots_curve(
      results, home / "plots" / "fewshot.png", f"{name}: answers against exemplars"
    )
  return {
    f"{row['set']}/{row['k']}shot": {row["metric"]: row["value"], "stderr": row["stderr"]}
    for row in results["sets"]
  }


def _silent(line: str) -> None:
  del line
