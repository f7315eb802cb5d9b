"""How the cost of each pattern grows with length: times, fitted exponents and a plot.

`python -m benchmarks.attention_scaling --output benchmarks/results/attention_scaling.json` writes a
picture beside the file. One head of 64, float32, forward and backward, blocks of 64; strides grow
as √length, as their paper has it. Dense attention ends where its scores fill the memory.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _paired
from mtm.parts.kernels import attend
from mtm.parts.patterns import Pattern, published
from mtm.parts.patterns.full import Full

LENGTHS = [2**i for i in range(10, 17)]
LONGEST_DENSE, ROUNDS, LONG = 16384, 3, 2.0


def root(length: int) -> int:
  """√length, rounded to a multiple of the block of 64, at least one block."""
  return max(64, round(length**0.5 / 64) * 64)


CASES: dict[str, tuple[Callable[[int], Pattern], str]] = {
  "dense": (lambda n: Full(), "dense"),
  "strided": (lambda n: published.sparse_strided(root(n)), "blocks"),
  "fixed": (lambda n: published.sparse_fixed(root(n), 8), "blocks"),
  "window": (lambda n: published.longformer(256, 0), "blocks"),
  "bigbird": (published.bigbird, "blocks"),
}


def seconds(pattern: Pattern, kernel: str, length: int) -> float:
  """The fastest forward and backward pass of `LONG` seconds: neighbours slow some."""
  arrays = [jax.random.normal(jax.random.key(i), (1, length, 1, 64)) for i in range(4)]

  @jax.jit
  def run(q: Any, k: Any, v: Any, g: Any) -> Any:
    out, pull = jax.vjp(lambda *x: attend(*x, pattern, kernel=kernel), q, k, v)
    return jnp.sum(out), pull(g)

  jax.block_until_ready(run(*arrays))
  times = []
  while len(times) < ROUNDS or sum(times) < LONG:
    start = time.perf_counter()
    jax.block_until_ready(run(*arrays))
    times.append(time.perf_counter() - start)
  return min(times)


def exponent(lengths: list[int], times: list[float]) -> float:
  """Of the power law through the longer half of the lengths, where constants no longer count."""
  half = len(lengths) // 2
  return float(np.polyfit(np.log(lengths[half:]), np.log(times[half:]), 1)[0])


def plot(results: dict[str, Any], path: pathlib.Path) -> None:
  """Time against length, both logarithmic."""
  import matplotlib.pyplot as plt

  figure, ax = plt.subplots(figsize=(6, 4))
  for name, row in results.items():
    label = f"{name}: length^{row['exponent']:.2f}"
    ax.loglog(row["lengths"], [1e3 * t for t in row["seconds"]], marker="o", label=label)
  ax.set(xlabel="tokens", ylabel="forward + backward, ms", xticks=LENGTHS)
  ax.set_xticklabels([f"{n // 1024}k" for n in LENGTHS])
  ax.minorticks_off()
  ax.grid(alpha=0.3)
  ax.legend(frameon=False)
  figure.tight_layout()
  figure.savefig(path, dpi=150)


def main() -> None:
  """The command line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--output", type=pathlib.Path)
  parser.add_argument("--longest", type=int, default=LENGTHS[-1])
  arguments = parser.parse_args()
  results = {}
  for name, (make, kernel) in CASES.items():
    most = min(arguments.longest, LONGEST_DENSE) if kernel == "dense" else arguments.longest
    lengths = [n for n in LENGTHS if n <= most]
    times = [seconds(make(n), kernel, n) for n in lengths]
    fitted = exponent(lengths, times)
    results[name] = {"lengths": lengths, "seconds": times, "exponent": round(fitted, 3)}
    print(f"{name}: exponent {fitted:.2f}; {times[-1]:.3f} s at {lengths[-1]:,}", flush=True)
  if arguments.output:
    record = {"machine": _paired.machine(), "results": results}
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    plot(results, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
  main()
