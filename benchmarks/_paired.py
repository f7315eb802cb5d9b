"""Paired runs: A B A B ..., each in a fresh process: the machine's drift hits both."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mtm.programs import allocator
from mtm.report import tables

TUNED = {allocator.TUNABLES: allocator.SETTING}  # what the command `mtm` sets
THREADS = 2
TIMEOUT = 1800.0  # seconds for one process


class BenchmarkError(RuntimeError):
  """A side did not run."""


@dataclasses.dataclass(frozen=True)
class Side:
  """One contender.

  Attributes:
    module: the module that runs it, as `python -m MODULE WORK FAMILY SIZE STEPS`.
    environment: variables of its process.
    first: arguments of its own, before those of the case.
  """

  module: str
  environment: Mapping[str, str]
  first: tuple[str, ...] = ()

  def run(self, *arguments: str) -> dict[str, Any]:
    """`{"seconds": [...], "versions": {...}}` of a fresh process.

    Raises:
      BenchmarkError: it failed; with the last line that it wrote.
    """
    command = [sys.executable, "-m", self.module, *self.first, *arguments]
    done = subprocess.run(
      command, env=environment(self.environment), capture_output=True, text=True, timeout=TIMEOUT
    )
    if done.returncode:
      last = (done.stderr.strip().splitlines() or ["no message"])[-1]
      raise BenchmarkError(f"{shlex.join(command)} failed: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


@dataclasses.dataclass(frozen=True)
class Case:
  """What is compared.

  Attributes:
    name: in the table.
    ours, theirs: the contenders.
    arguments: what both are asked to run.
    goal: what the ratio should not exceed, or None.
  """

  name: str
  ours: Side
  theirs: Side
  arguments: tuple[str, ...]
  goal: float | None = None


def environment(extra: Mapping[str, str]) -> dict[str, str]:
  """This process's environment for a side: two threads for every library, CPU, no network."""
  clean = {k: v for k, v in os.environ.items() if k not in ("GLIBC_TUNABLES", "XLA_FLAGS")}
  threads = {f"{name}_NUM_THREADS": str(THREADS) for name in ("OMP", "MKL")}
  return {**clean, **threads, "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", **extra}


def run(case: Case, pairs: int) -> dict[str, Any]:
  """The medians of `pairs` runs of each side, in turn, in seconds.

  Returns:
    `{"name", "goal", "ours": [...], "theirs": [...], "ratio", "versions"}`.
  """
  ours, theirs, versions = [], [], {}
  for number in range(pairs):
    for side, medians in ((case.ours, ours), (case.theirs, theirs)):
      result = side.run(*case.arguments)
      medians.append(statistics.median(result["seconds"]))
      versions |= result["versions"]
    said = f"{case.name}: pair {number + 1}/{pairs}: {ours[-1] / theirs[-1]:.3f}"
    print(said, file=sys.stderr, flush=True)
  row = tables.Ratio.of(case.name, ours, theirs, case.goal)
  return {
    "name": case.name, "goal": case.goal, "ratio": row.ratio, "low": row.low, "high": row.high,
    "ours": ours, "theirs": theirs, "versions": versions,
  }  # fmt: skip


def report(
  title: str, results: Sequence[Mapping[str, Any]], output: str | None, theirs: str = "transformers"
) -> None:
  """Prints the table of `run`'s results, and writes them with the machine to `output` as JSON."""
  rows = [
    tables.Ratio.of(
      r["name"], [1e3 * s for s in r["ours"]], [1e3 * s for s in r["theirs"]], r["goal"]
    )
    for r in results
  ]
  tables.show(tables.ratios(rows, title, theirs=theirs))
  if output:
    record = {"title": title, "machine": machine(), "results": list(results)}
    pathlib.Path(output).write_text(json.dumps(record, indent=2) + "\n")


def machine() -> dict[str, Any]:
  """What ran, where and when."""
  return {
    "command": "python -m " + shlex.join([_module(), *sys.argv[1:]]),
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "cpu": _cpu(),
    "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    "threads": THREADS,
    "system": platform.platform(),
    "python": platform.python_version(),
  }


def main(
  work: str, title: str, goals: Mapping[str, float], argv: Sequence[str] | None = None
) -> int:
  """A benchmark's command line: measures each family of `goals`.

  Ours has the malloc that the command `mtm` sets; theirs is as it starts, then with ours.

  Args:
    work: `train` or `decode`.
    title: of the table.
    goals: family → the ratio not to exceed.
    argv: arguments; None: `sys.argv`.

  Returns:
    the exit code: 1 when a side did not run.
  """
  parser = argparse.ArgumentParser(prog=f"python -m {_module()}", description=title)
  parser.add_argument("--output", help="JSON file to write")
  parser.add_argument("--pairs", type=int, default=5, help="runs of each side")
  parser.add_argument("--steps", type=int, default=20, help="timed repetitions in a run")
  parser.add_argument("--size", default="standard", help="see benchmarks/_sizes.py")
  parser.add_argument("--family", action="append", choices=sorted(goals), help="default: all")
  parser.add_argument("--theirs", default="benchmarks._torch", help="the rival's module")
  args = parser.parse_args(argv)
  settings = {"each as it starts": {}, "mtm's malloc for both": TUNED}
  cases = [
    Case(
      f"{family} {work}, {name}", Side("benchmarks._mtm", TUNED), Side(args.theirs, theirs),
      (work, family, args.size, str(args.steps)), goal,
    )
    for family, goal in goals.items() if family in (args.family or goals)
    for name, theirs in settings.items()
  ]  # fmt: skip
  try:
    results = [run(case, args.pairs) for case in cases]
  except BenchmarkError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  report(title, results, args.output)
  return 0


def _module() -> str:
  spec = sys.modules["__main__"].__spec__
  return spec.name if spec else "benchmarks"


def _cpu() -> str:
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    return platform.processor()
  names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
  return names[0] if names else platform.processor()
