"""Does a Switch decoder reach a loss in fewer steps than a dense one of as many FLOPs a token?

PAPER: Switch Transformers, 2101.03961, section 3.1 and figure 1.
SENTENCE: more experts at equal FLOPs a token reach a given loss in fewer steps.
COMMAND: `python -m benchmarks.claims.switch --output benchmarks/results/claims_switch.json`
BUDGET: about 10 minutes of two cores; `--steps`, `--experts` and `--seeds` make it more.

Every run is `mtm train` with gin/runs/claims/switch_vs_dense.gin: the same data, steps, learning
rate and seed, and another number of experts; "dense" is LLaMA with the same sizes. Losses are those
of held-out modules, without auxiliary losses; evaluation drops no token. The step speed-up is the
dense model's steps over those after which Switch has the dense model's last loss, between
evaluations by straight lines; the same of seconds, evaluation and compilation not counted.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import _paired
from mtm.training import metrics

RUN = "runs/claims/switch_vs_dense.gin"
DENSE = "dense"
_COLOURS = ("#5b6b7b", "#d55e00", "#0072b2", "#009e73", "#cc79a7")


def train(experts: str, seed: int, steps: int, home: pathlib.Path) -> dict[str, Any]:
  """One run: held-out losses by step, and seconds of a training step.

  Args:
    experts: their number, or "dense".
    seed: of parameters and data.
    steps: of training.
    home: MODEL_DIR.
  """
  model = ["--gin.MODEL=@llama.llama()"] if experts == DENSE else [f"--gin.EXPERTS={experts}"]
  command = [
    sys.executable, "-m", "mtm.cli", "train", f"--gin_file={RUN}", *model,
    f"--gin.MODEL_DIR='{home}'", f"--gin.RANDOM_SEED={seed}", f"--gin.TRAIN_STEPS={steps}",
  ]  # fmt: skip
  done = subprocess.run(
    command, env=_paired.environment(_paired.TUNED), capture_output=True, text=True
  )
  if done.returncode:
    raise _paired.BenchmarkError(f"{command} failed: {done.stderr.strip().splitlines()[-1:]}")
  rows = metrics.read(home)
  held_out = [row for row in rows if row["split"] == "validation"]
  paces = [row["steps_per_second"] for row in rows if "steps_per_second" in row]
  load = [value for row in rows for key, value in row.items() if key.endswith("load_entropy")]
  return {
    "experts": experts,
    "seed": seed,
    "steps": [row["step"] for row in held_out],
    "losses": [row["cross_entropy"] for row in held_out],
    "seconds_per_step": 1 / paces[-1],
    "load_entropy": None if not load else float(np.mean(load[-1])),
  }


def reached(steps: Sequence[float], losses: Sequence[float], wanted: float) -> float | None:
  """After how many steps a falling loss is first at `wanted`, by straight lines; None: never."""
  for (s0, l0), (s1, l1) in zip(
    zip(steps, losses, strict=True), zip(steps[1:], losses[1:], strict=True), strict=False
  ):
    if l1 <= wanted:
      return s0 + (s1 - s0) * (l0 - wanted) / (l0 - l1) if l0 > wanted else s0
  return None


def speed_ups(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
  """For each number of experts: the final loss, and step and time speed-ups of every seed."""
  dense = {run["seed"]: run for run in runs if run["experts"] == DENSE}
  out: dict[str, dict[str, Any]] = {}
  for run in runs:
    base = dense[run["seed"]]
    row = out.setdefault(run["experts"], {"final_loss": [], "step_speed_up": [], "time": []})
    at = reached(run["steps"], run["losses"], base["losses"][-1])
    gain = None if at is None else base["steps"][-1] / at
    ratio = base["seconds_per_step"] / run["seconds_per_step"]
    row["final_loss"].append(run["losses"][-1])
    row["step_speed_up"].append(gain)
    row["time"].append(None if gain is None else gain * ratio)
  return out


def plot(runs: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
  """Held-out loss against steps and against seconds, a line a run."""
  import matplotlib.pyplot as plt

  names = list(dict.fromkeys(run["experts"] for run in runs))
  figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
  for run in runs:
    colour = _COLOURS[names.index(run["experts"]) % len(_COLOURS)]
    first = run["seed"] == min(r["seed"] for r in runs)
    name = run["experts"] if run["experts"] == DENSE else f"{run['experts']} experts"
    label = name if first else "_"
    seconds = [step * run["seconds_per_step"] for step in run["steps"]]
    for panel, x in zip(panels, (run["steps"], seconds), strict=True):
      panel.plot(x, run["losses"], color=colour, lw=1.4, alpha=0.8, label=label)
  for panel, label in zip(panels, ("step", "seconds of training steps"), strict=True):
    panel.set(xlabel=label, yscale="log")
    panel.grid(alpha=0.3, which="both")
  panels[0].set_ylabel("held-out loss, nats a token")
  panels[0].legend(frameon=False)
  figure.suptitle("Switch and dense decoders of equal FLOPs a token")
  figure.tight_layout()
  figure.savefig(path, dpi=150)


def main() -> None:
  """The command line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--output", type=pathlib.Path)
  parser.add_argument("--steps", type=int, default=300)
  parser.add_argument("--experts", nargs="+", default=["4", "16"])
  parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
  arguments = parser.parse_args()
  runs = []
  with tempfile.TemporaryDirectory() as folder:
    for seed in arguments.seeds:
      for experts in [DENSE, *arguments.experts]:
        home = pathlib.Path(folder) / f"{experts}_{seed}"
        runs.append(train(experts, seed, arguments.steps, home))
        last = runs[-1]
        print(
          f"{experts}, seed {seed}: held-out loss {last['losses'][-1]:.4f} after"
          f" {last['steps'][-1]} steps of {last['seconds_per_step']:.3f} s",
          flush=True,
        )
  results = speed_ups(runs)
  for experts, row in results.items():
    gains = [gain for gain in row["step_speed_up"] if gain is not None]
    told = (
      f"{statistics.mean(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})" if gains else "none"
    )
    print(f"{experts}: step speed-up {told}")
  if arguments.output:
    record = {"machine": _paired.machine(), "results": results, "runs": runs}
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    plot(runs, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
  main()
