"""What the claims on prompts share: `mtm train` and `mtm eval` in fresh processes, and plots.

A run is told by gin macros, and answers come back as `results.json` has them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks import _paired

MODULE = "benchmarks.claims._sets"
COLOURS = ("#5b6b7b", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00")

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Curve:
  """A line of a picture.

  Attributes:
    label: in the legend.
    points: x → the values of several seeds; the line goes through their means.
    dashed: whether it is something to compare with, and not a measurement.
  """

  label: str
  points: Mapping[Any, Sequence[float]]
  dashed: bool = False


def train(file: str, home: pathlib.Path, **macros: Any) -> Row:
  """One training run.

  Args:
    file: the gin file below `gin/`.
    home: MODEL_DIR.
    macros: macro → value.

  Returns:
    the held-out loss after it, its steps, and the seconds of a step.

  Raises:
    BenchmarkError: it failed; with the last line that it wrote.
  """
  from mtm.training import metrics

  _run("train", file, {**macros, "MODEL_DIR": str(home)})
  rows = metrics.read(home)
  held_out = [row for row in rows if row["split"] == "validation"]
  paces = [row["steps_per_second"] for row in rows if "steps_per_second" in row]
  return {
    "held_out_loss": held_out[-1]["cross_entropy"], "steps": held_out[-1]["step"],
    "seconds_per_step": 1 / statistics.median(paces),
  }  # fmt: skip


def ask(checkpoint: pathlib.Path, home: pathlib.Path, **macros: Any) -> list[Row]:
  """The cells of `gin/runs/fewshot.gin`, see `mtm.evaluation.fewshot.Cell`.

  Args:
    checkpoint: MODEL_DIR.
    home: where answers go.
    macros: macro → value, SETS at least.

  Raises:
    BenchmarkError: as `train` does.
  """
  told = {
    "SETS_MODULE": MODULE, "BATCH_SIZE": 64, **macros, "CHECKPOINT_PATH": str(checkpoint),
    "EVAL_OUTPUT_DIR": str(home),
  }  # fmt: skip
  _run("eval", "runs/fewshot.gin", told)
  cells = json.loads((home / "results.json").read_text())["cells"]
  return [
    {
      "set": cell["set"], "cluster": cell["cluster"], "template": cell["template"], "k": cell["k"],
      "questions": cell["questions"], "value": cell["metrics"][cell["main"]],
    }
    for cell in cells
  ]  # fmt: skip


def _run(verb: str, file: str, macros: Mapping[str, Any]) -> None:
  command = [sys.executable, "-m", "mtm.cli", verb, f"--gin_file={file}"]
  command += [f"--gin.{name}={value!r}" for name, value in macros.items()]
  done = subprocess.run(
    command, env=_paired.environment(_paired.TUNED), capture_output=True, text=True
  )
  if done.returncode:
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise _paired.BenchmarkError(f"{command} failed: {last}")


def mean(cells: Iterable[Row], **wanted: Any) -> float:
  """The mean value of the cells whose columns say so.

  Raises:
    ValueError: there is none.
  """
  values = [
    cell["value"] for cell in cells if all(cell[name] == value for name, value in wanted.items())
  ]
  if not values:
    raise ValueError(f"no cell has {wanted}")
  return statistics.fmean(values)


def gathered(runs: Sequence[Row], arm: str, of: Callable[[Row], Mapping[Any, float]]) -> Row:
  """x → the values of all seeds of one arm, in the order of the runs.

  Args:
    runs: with the column `arm`.
    arm: which of them.
    of: what a run has to say, x → value.
  """
  found: dict[Any, list[float]] = {}
  for run in runs:
    if run["arm"] == arm:
      for x, value in of(run).items():
        found.setdefault(str(x), []).append(value)
  return found


def plot(
  panels: Mapping[str, Sequence[Curve]], path: pathlib.Path, title: str, x: str, y: str = "accuracy"
) -> None:
  """A panel for each entry, side by side; a point a seed, and a line through their means."""
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4), squeeze=False)
  for axis, (name, curves) in zip(axes[0], panels.items(), strict=True):
    for colour, curve in zip(COLOURS, curves, strict=False):
      places = list(range(len(curve.points)))
      means = [statistics.fmean(values) for values in curve.points.values()]
      style = {"ls": "--", "lw": 1.0} if curve.dashed else {"ls": "-", "lw": 1.6}
      axis.plot(places, means, color=colour, label=curve.label, **style)
      for place, values in zip(places, curve.points.values(), strict=True):
        if not curve.dashed:
          axis.plot([place] * len(values), values, "o", color=colour, ms=4, alpha=0.7)
      axis.set_xticks(places, [str(point) for point in curve.points])
    axis.set(title=name, xlabel=x, ylabel=y, ylim=(-0.03, 1.03))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
  figure.suptitle(title)
  figure.tight_layout()
  figure.savefig(path, dpi=150)


def parser(about: str | None, steps: int, limit: int) -> argparse.ArgumentParser:
  """The flags that all of these claims have.

  Args:
    about: the module's docstring.
    steps: of a training run, by default.
    limit: questions of a set, by default.
  """
  made = argparse.ArgumentParser(
    description=about, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument("--output", type=pathlib.Path, help="JSON file to write, and .png beside it")
  made.add_argument("--steps", type=int, default=steps, help="of training, more for a GPU")
  made.add_argument("--limit", type=int, default=limit, help="questions of a set")
  made.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
  made.add_argument("--work", type=pathlib.Path, help="keep runs here, and go on with those there")
  return made


def each(
  arguments: argparse.Namespace, arms: Sequence[str],
  one: Callable[[str, int, pathlib.Path], Row],
) -> list[Row]:  # fmt: skip
  """The runs of all seeds and arms; those that `--work` has are not run again.

  Args:
    arguments: of `parser`.
    arms: their names.
    one: an arm, a seed and a directory → what came of it.
  """
  runs = []
  with tempfile.TemporaryDirectory() as folder:
    work = arguments.work or pathlib.Path(folder)
    for seed in arguments.seeds:
      for arm in arms:
        home = work / f"{arm}_{seed}"
        kept = home / "run.json"
        if not kept.exists():
          found = {"arm": arm, "seed": seed, **one(arm, seed, home)}
          kept.write_text(json.dumps(found))
        runs.append(json.loads(kept.read_text()))
        print(f"{arm}, seed {seed}: done", flush=True)
  return runs


def write(
  output: pathlib.Path | None, results: Mapping[str, Any], runs: Sequence[Row]
) -> None:  # fmt: skip
  """The record, if it is wanted: machine, results and every run."""
  if output:
    record = {"machine": _paired.machine(), "results": results, "runs": list(runs)}
    output.write_text(json.dumps(record, indent=1) + "\n")
