"""`mtm eval --lm_eval=TASKS CHECKPOINT`: tasks of lm-evaluation-harness, from local files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from mtm.errors import UserError, nearest
from mtm.programs import setup
from mtm.report import fewshot as report
from mtm.report import tables

FLAG = "--lm_eval"


def asked(argv: Sequence[str]) -> bool:
  """Whether the command line is for this."""
  return any(given.partition("=")[0] == FLAG for given in argv)


def main(argv: Sequence[str]) -> int:
  """The command line.

  Returns:
    The exit code: 0, or 1 after a `UserError`, which is printed as one line.
  """
  parser = argparse.ArgumentParser("mtm eval", description=__doc__)
  parser.add_argument("checkpoint", help="any checkpoint that mtm.load takes")
  parser.add_argument(FLAG, required=True, metavar="TASKS", help="names, separated by commas")
  parser.add_argument("--include_path", help="a directory with the tasks' YAML files")
  parser.add_argument("--output", metavar="DIR", help="where results.json and samples.jsonl go")
  parser.add_argument("--num_fewshot", type=int, help="exemplars; default: what a task says")
  parser.add_argument("--limit", type=float, help="questions of a task; below 1: their share")
  parser.add_argument("--batch_size", type=int, default=16)
  parser.add_argument("--max_length", type=int, help="the longest sequence; default: the model's")
  given = parser.parse_args(argv)
  try:
    setup.start()
    results = run(
      given.checkpoint, given.lm_eval.split(","), given.include_path, given.num_fewshot,
      given.limit, given.batch_size, given.max_length,
    )  # fmt: skip
    if jax.process_index() == 0:
      tables.show(report.harness_table(results))
      if given.output:
        write(results, Path(given.output))
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  return 0


def run(
  checkpoint: str,
  tasks: Sequence[str],
  include_path: str | None = None,
  num_fewshot: int | None = None,
  limit: float | None = None,
  batch_size: int = 16,
  max_length: int | None = None,
) -> dict[str, Any]:
  """What `lm_eval.simple_evaluate` returns.

  Args:
    checkpoint: any that `mtm.load` takes.
    tasks: names.
    include_path: a directory of task files; with one, only its tasks are known.
    num_fewshot, limit, batch_size, max_length: see `main`.

  Raises:
    UserError: lm_eval is not installed, the directory or a task does not exist.
  """
  try:
    import lm_eval
    from lm_eval.tasks import TaskManager
  except ModuleNotFoundError as error:
    raise UserError(f'--lm_eval needs {error.name}: pip install "mtm[eval]"') from None
  from mtm.evaluation.lm_eval import MTM

  if include_path is not None and not Path(include_path).is_dir():
    raise UserError(f"--include_path={include_path}: no such directory")
  manager = TaskManager(include_path=include_path, include_defaults=include_path is None)
  for name in tasks:
    if not manager.match_tasks([name]):
      raise UserError(f"lm_eval has no task {name!r}{nearest(name, manager.all_tasks)}")
  found = lm_eval.simple_evaluate(
    model=MTM(checkpoint, batch_size, max_length), tasks=list(tasks), num_fewshot=num_fewshot,
    limit=limit, task_manager=manager,
  )  # fmt: skip
  return dict(found or {})


def write(results: Mapping[str, Any], home: Path) -> None:
  """`results.json`, and every question with its answer in `samples.jsonl`."""
  try:
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in results.items() if name != "samples"}
    (home / "results.json").write_text(json.dumps(kept, indent=2, default=str) + "\n")
    with open(home / "samples.jsonl", "w", encoding="utf-8") as file:
      for task, rows in results.get("samples", {}).items():
        for row in rows:
          file.write(json.dumps({"task": task, **row}, default=str) + "\n")
  except OSError as error:
    raise UserError(f"cannot write into {home}: {error.strerror or error}") from error
