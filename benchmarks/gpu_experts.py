"""Expert layers on one GPU: forward and backward, bfloat16, as multiples of a dense layer's time.

`python -m benchmarks.gpu_experts --output benchmarks/results/gpu_experts.json`. One expert a token,
so of as many FLOPs as the dense layer, with router, auxiliary losses and metrics. All layers run in
one process, in turns. Where there is no GPU it says so and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import time
from typing import Any

import jax

from benchmarks._experts_mtm import Shape, pass_of

ROUNDS = 7
SHAPE = Shape(batch=8, length=2048, embed=1024, hidden=4096, dtype="bfloat16")
LAYERS = [
  f"{kind}-{experts}-{engine}"
  for experts in (8, 64)
  for kind, engines in {
    "capacity": ("einsum", "gather", "ragged"), "dropless": ("gather", "ragged"),
  }.items()
  for engine in engines
]  # fmt: skip


def measure(shape: Shape, layers: list[str]) -> list[dict[str, Any]]:
  """A row for each layer, the dense one first; milliseconds are medians."""
  runs, rows = {}, []
  for name in ["dense", *layers]:
    try:
      runs[name] = pass_of(name, shape)
      jax.block_until_ready(runs[name]())
    except jax.errors.JaxRuntimeError as error:  # it needs more memory than the card has
      runs.pop(name, None)
      rows.append({"layer": name, "failed": str(error).splitlines()[0]})
  times: dict[str, list[float]] = {name: [] for name in runs}
  for _ in range(ROUNDS):
    for name, run in runs.items():
      start = time.perf_counter()
      jax.block_until_ready(run())
      times[name].append(time.perf_counter() - start)
  medians = {name: statistics.median(each) for name, each in times.items()}
  done = [
    {"layer": name, "ms": round(1e3 * t, 3), "of dense": round(t / medians["dense"], 2)}
    for name, t in medians.items()
  ]
  return done + rows


def main() -> None:
  """The command."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--output", type=pathlib.Path)
  parser.add_argument("--layers", nargs="+", default=LAYERS)
  arguments = parser.parse_args()
  if jax.default_backend() != "gpu":
    print("skipped: JAX sees no GPU")
    return
  rows = measure(SHAPE, arguments.layers)
  for row in rows:
    print(row)
  result = {
    "device": jax.devices()[0].device_kind, "jax": jax.__version__,
    "shape": SHAPE._asdict(), "rows": rows,
  }  # fmt: skip
  if arguments.output:
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
  main()
