"""How long until a run takes its first step: the first time, and when it goes on.

`python -m benchmarks.restart --output benchmarks/results/restart.json`

Cold: the quickstart in a directory of its own, with neither compiled programs nor vocabulary nor
tokens in the cache. Warm: the same command again, which goes on from the checkpoint at step 2. Both
are seconds from the start of the process to the first step's line in metrics.jsonl. The quickstart
itself compiles in seconds; with 24 layers that are not scanned, compilation is what counts, as it
does at scale.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import _paired
from mtm.training import metrics

FLAGS = [
  "--gin_file=runs/quickstart.gin", "--gin.CHECKPOINT_PERIOD=2", "--gin.EVAL_PERIOD=1000",
  "--gin.EVAL_STEPS=1", "--gin.sampling.Sample.period=1000",
  "--gin.schedules.linear.total_steps=100",
]  # fmt: skip
CASES = {
  "quickstart": [],
  "24 layers": ["--gin.llama.llama.layers=24", "--gin.llama.llama.scan=False"],
}


def first_step(more: Sequence[str], home: pathlib.Path, cache: pathlib.Path, wanted: int) -> float:
  """Starts the run, and gives the seconds until it has told of step `wanted`; then it ends."""
  environment = _paired.environment(_paired.TUNED) | {"MTM_CACHE": str(cache)}
  environment.pop("JAX_COMPILATION_CACHE_DIR", None)
  flags = [*FLAGS, *more, f"--gin.MODEL_DIR='{home}'", f"--gin.TRAIN_STEPS={wanted + 1}"]
  command = [sys.executable, "-m", "mtm.cli", "train", *flags]
  began = time.perf_counter()
  run = subprocess.Popen(
    command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
  )
  while run.poll() is None:
    if told(home, wanted):
      break
    time.sleep(0.02)
  seconds = time.perf_counter() - began
  _, said = run.communicate()
  if run.returncode or not told(home, wanted):
    raise _paired.BenchmarkError(f"{command} failed: {said.strip().splitlines()[-1:]}")
  return seconds


def told(home: pathlib.Path, step: int) -> bool:
  """Whether a training step is in the run's metrics."""
  path = home / "metrics.jsonl"
  return path.exists() and any(row["step"] == step for row in metrics.read(home))


def main() -> None:
  """The command line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--output", type=pathlib.Path)
  parser.add_argument("--pairs", type=int, default=3)
  arguments = parser.parse_args()
  found = {name: measured(name, arguments.pairs) for name in CASES}
  if arguments.output:
    record = {"machine": _paired.machine(), "cores": os.cpu_count(), "cases": found}
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")


def measured(name: str, pairs: int) -> dict[str, Any]:
  """A cold start and a warm one, so many times, and the median of their ratios."""
  found = []
  for _ in range(pairs):
    with tempfile.TemporaryDirectory() as folder:
      home, cache = pathlib.Path(folder) / "run", pathlib.Path(folder) / "cache"
      cold = first_step(CASES[name], home, cache, 1)
      warm = first_step(CASES[name], home, cache, 3)
    found.append({"cold": cold, "warm": warm, "ratio": warm / cold})
    print(f"{name}: cold {cold:.1f} s, warm {warm:.1f} s: {warm / cold:.0%}", flush=True)
  ratio = statistics.median(pair["ratio"] for pair in found)
  print(f"{name}: warm over cold: {ratio:.0%} (goal: at most 30 %)")
  return {"pairs": found, "ratio": ratio}


if __name__ == "__main__":
  main()
