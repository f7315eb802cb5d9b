"""Attention engines on one GPU: forward and backward, bfloat16, ratios to XLA's dense softmax.

`python -m benchmarks.gpu_attention --output benchmarks/results/gpu_attention.json`. All engines run
in one process, in turns. Where there is no GPU it says so and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mtm.parts.kernels import Kernel, attend
from mtm.parts.kernels.blocks import Blocks
from mtm.parts.kernels.dense import Dense
from mtm.parts.kernels.gpu import Gpu
from mtm.parts.patterns import Pattern, published
from mtm.parts.patterns.causal import Causal

HEADS, HEAD_DIM, ROUNDS = 16, 64, 7
ENGINES: dict[str, Kernel] = {
  "dense": Dense(), "blocks": Blocks(block=128, scores=2**26), "gpu": Gpu(),
}  # fmt: skip


def patterns(length: int) -> dict[str, Pattern]:
  """What is measured at a length."""
  return {
    "causal": Causal(),
    "banded": published.banded(256),
    "bigbird": published.bigbird(length),
  }


def step(pattern: Pattern, kernel: Kernel, length: int) -> Callable[[], Any]:
  """A compiled forward and backward pass."""
  shape = (1, length, HEADS, HEAD_DIM)
  q, k, v, g = (jax.random.normal(jax.random.key(i), shape, jnp.bfloat16) for i in range(4))

  @jax.jit
  def run(q: Any, k: Any, v: Any, g: Any) -> Any:
    out, pull = jax.vjp(lambda *x: attend(*x, pattern, kernel=kernel), q, k, v)
    return out, pull(g)

  compiled = run.lower(q, k, v, g).compile()
  return lambda: jax.block_until_ready(compiled(q, k, v, g))


def measure(lengths: list[int]) -> list[dict[str, Any]]:
  """A row for each length and pattern; milliseconds are medians."""
  rows = []
  for length in lengths:
    for name, pattern in patterns(length).items():
      runs = {engine: step(pattern, kernel, length) for engine, kernel in ENGINES.items()}
      times: dict[str, list[float]] = {engine: [] for engine in runs}
      for run in runs.values():
        run()
      for _ in range(ROUNDS):
        for engine, run in runs.items():
          start = time.perf_counter()
          run()
          times[engine].append(time.perf_counter() - start)
      medians = {engine: statistics.median(each) for engine, each in times.items()}
      row: dict[str, Any] = {"length": length, "pattern": name}
      row |= {f"{engine}_ms": round(1e3 * t, 3) for engine, t in medians.items()}
      row |= {f"dense/{engine}": round(medians["dense"] / t, 2) for engine, t in medians.items()}
      print(row, flush=True)
      rows.append(row)
  return rows


def main() -> None:
  """The command."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--output", type=pathlib.Path)
  parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 4096, 8192, 16384])
  arguments = parser.parse_args()
  if jax.default_backend() != "gpu":
    print("skipped: JAX sees no GPU")
    return
  result = {
    "device": jax.devices()[0].device_kind,
    "jax": jax.__version__,
    "shape": {"batch": 1, "heads": HEADS, "head_dim": HEAD_DIM, "dtype": "bfloat16"},
    "rows": measure(arguments.lengths),
  }
  if arguments.output:
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
  main()
