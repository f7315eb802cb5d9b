"""A queue of requests with continuous batching, against one at a time and against fixed batches.

`python -m benchmarks.serving [--output FILE.json]`: GPT-2 of benchmarks/_sizes.py, greedy, 32
requests of unequal lengths; the same engine, parameters and requests on both sides.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import _paired
from benchmarks._paired import TUNED, BenchmarkError, Case, Side

TITLE = "Serving 32 requests: continuous batching in 8 rows against other ways, two threads"
RIVALS = {"one": "one at a time", "batches": "batches of 8, each until its longest ends"}


def main(argv: Sequence[str] | None = None) -> int:
  """The command line; the exit code is 1 when a side did not run."""
  parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=TITLE)
  parser.add_argument("--output", help="JSON file to write")
  parser.add_argument("--pairs", type=int, default=5, help="runs of each side")
  parser.add_argument("--steps", type=int, default=3, help="timed repetitions in a run")
  parser.add_argument("--size", default="standard", help="see benchmarks/_sizes.py")
  args = parser.parse_args(argv)
  ours = Side("benchmarks._serving", TUNED, ("continuous",))
  cases = [
    Case(
      f"against {name}", ours, Side("benchmarks._serving", TUNED, (way,)),
      (args.size, str(args.steps)),
    )
    for way, name in RIVALS.items()
  ]  # fmt: skip
  try:
    results = [_paired.run(case, args.pairs) for case in cases]
  except BenchmarkError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  _paired.report(TITLE, results, args.output, "other way")
  return 0


if __name__ == "__main__":
  sys.exit(main())
