"""Block-sparse attention on CPU beside dense attention: torch's, and XLA's in a training step.

`pip install -e '.[bench]'`, then `python -m benchmarks.sparse_attention [--output FILE.json]`. One
example, 4 heads of 64, float32, forward and backward; BigBird with 3 neighbouring, 2 global and 3
random blocks of 64; the training step is of an encoder of four layers with a window of 512.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

from benchmarks import _paired
from benchmarks._paired import Case, Side
from mtm.report import tables

TITLE = "Sparse against dense attention, forward and backward, two threads"
OURS = Side("benchmarks._attention_mtm", _paired.TUNED)
TORCH = Side("benchmarks._attention_torch", {})
DENSE = 4096  # the length at which temporaries are compared


def cases(steps: int) -> list[Case]:
  """What is compared; a goal is the share of the other's time."""
  attention = [
    Case(f"BigBird at {length:,}, torch dense", OURS, TORCH,
         ("attend", "blocks", str(length), str(steps)), goal)
    for length, goal in ((4096, 1 / 5.5), (8192, 0.1))
  ]  # fmt: skip
  return attention


def step_case(steps: int) -> dict[str, object]:
  """The training step at 8,192 tokens: both sides are mtm, with another engine."""
  ours, theirs = (
    [s for _ in range(2) for s in OURS.run("step", engine, "8192", str(steps))["seconds"]]
    for engine in ("blocks", "dense")
  )
  row = tables.Ratio.of("training step at 8,192, XLA dense", ours, theirs, None)
  return {
    "name": row.name, "goal": None, "ratio": row.ratio, "low": row.low, "high": row.high,
    "ours": ours, "theirs": theirs, "versions": {},
  }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
  """The command line; 1 when a side did not run."""
  parser = argparse.ArgumentParser(description=TITLE)
  parser.add_argument("--output", help="JSON file to write")
  parser.add_argument("--pairs", type=int, default=3, help="runs of each side")
  parser.add_argument("--steps", type=int, default=5, help="timed repetitions in a run")
  args = parser.parse_args(argv)
  try:
    results = [_paired.run(case, args.pairs) for case in cases(args.steps)]
    results.append(step_case(1))
    sparse, dense = (
      OURS.run("memory", engine, str(DENSE), "1")["bytes"] for engine in ("blocks", "dense")
    )
  except _paired.BenchmarkError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  _paired.report(TITLE, results, args.output, theirs="dense")
  print(f"temporaries at {DENSE:,}: {sparse / 1e6:.0f} MB of XLA dense's {dense / 1e6:,.0f} MB")
  if args.output:
    path = pathlib.Path(args.output)
    record = json.loads(path.read_text())
    record["temporaries"] = {"length": DENSE, "blocks_bytes": sparse, "dense_bytes": dense}
    path.write_text(json.dumps(record, indent=2) + "\n")
  return 0


if __name__ == "__main__":
  sys.exit(main())
