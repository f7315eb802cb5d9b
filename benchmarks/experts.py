"""Experts on CPU beside a dense layer of as many FLOPs, and a Switch step beside transformers'.

`pip install -e '.[bench]'`, then `python -m benchmarks.experts [--output FILE.json]`. The layers:
8 × 512 tokens of 256, hidden 1,024, float32, forward and backward in training, one expert a token,
with router, auxiliary losses and metrics. The step: a Switch Transformer of 8 experts in every
second layer of each tower.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks import _paired
from benchmarks._paired import Case, Side

TITLE = "Experts, forward and backward, two threads"
DENSE = Side("benchmarks._experts_mtm", _paired.TUNED, ("dense",))
GOALS = {"capacity-8": 1.4, "capacity-64": 1.6, "dropless-8": 1.2, "dropless-64": 1.8}
STEP_GOAL = 0.8


def layers(steps: int) -> list[Case]:
  """Layers of experts beside the dense layer; a goal is the multiple of its time."""
  return [
    Case(name, Side("benchmarks._experts_mtm", _paired.TUNED, (name,)), DENSE, (str(steps),), goal)
    for name, goal in GOALS.items()
  ]


def steps_of_models(steps: int) -> list[Case]:
  """The training step of a model beside transformers': as each starts, and with one malloc."""
  settings = {"each as it starts": {}, "mtm's malloc for both": _paired.TUNED}
  return [
    Case(
      f"Switch step, {name}", Side("benchmarks._mtm", _paired.TUNED),
      Side("benchmarks._torch", theirs), ("train", "switch", "standard", str(steps)), STEP_GOAL,
    )
    for name, theirs in settings.items()
  ]  # fmt: skip


def main(argv: list[str] | None = None) -> int:
  """The command line; 1 when a side did not run."""
  parser = argparse.ArgumentParser(description=TITLE)
  parser.add_argument("--output", help="JSON file to write")
  parser.add_argument("--pairs", type=int, default=5, help="runs of each side")
  parser.add_argument("--steps", type=int, default=10, help="timed repetitions in a run")
  parser.add_argument("--case", action="append", help="part of a case's name; default: all")
  args = parser.parse_args(argv)
  cases = [
    case
    for case in layers(args.steps) + steps_of_models(args.steps)
    if any(part in case.name for part in args.case or [""])
  ]
  try:
    results = [_paired.run(case, args.pairs) for case in cases]
  except _paired.BenchmarkError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  _paired.report(TITLE, results, args.output, theirs="the other")
  return 0


if __name__ == "__main__":
  sys.exit(main())
