"""Published scales, compiled for TPU slices that are not here: what fits, and what is predicted.

`pip install -e '.[tpu]'`, then `python -m benchmarks.scale [--output FILE.json] [--only NAME]`. It
runs the command that stands in each of gin/runs/scale/*.gin, keeps what FILE.json has of the other
runs, and writes the table of docs/scale.md anew.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "gin" / "runs" / "scale"
DOCS = ROOT / "docs" / "scale.md"
MARKS = ("<!-- made by python -m benchmarks.scale -->", "<!-- end -->")
KEPT = (
  "fits", "topology", "chips", "parameters", "hbm_gib_per_chip", "collectives", "compile_seconds",
  "quick", "predicted", "replicated", "mesh", "microbatches", "model_flops", "flops_per_chip",
  "hbm_traffic_gib", "open_loops", "message",
)  # fmt: skip


def command(path: Path) -> list[str]:
  """The flags of `mtm compile` that a run file names in its head."""
  told = re.search(r"^# mtm compile (.*)$", path.read_text(), re.MULTILINE)
  if told is None:
    raise ValueError(f"{path} does not say how it is compiled: `# mtm compile ...`")
  return told[1].split()


def run(flags: Sequence[str], quick: bool) -> dict[str, Any]:
  """Compiles in a process of its own, so that a compiler that dies takes nothing along."""
  with tempfile.TemporaryDirectory() as folder:
    output = Path(folder) / "report.json"
    words = [sys.executable, "-m", "mtm.cli", "compile", *flags, "--no-advice"]
    words += [f"--output={output}", *(["--quick"] if quick else [])]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if not output.exists():
      said = (done.stderr.strip().splitlines() or [""])[-1][:300]
      return {"fits": False, "message": f"exit {done.returncode}: {said}"}
    report = json.loads(output.read_text())
  return {key: report[key] for key in KEPT if key in report}


def table(runs: Mapping[str, Mapping[str, Any]]) -> str:
  """The results as Markdown, the smallest model first."""
  lines = [
    "| run | parameters | slice | mesh | GiB a chip | compiled in | step | MFU |",
    "|---|---|---|---|---|---|---|---|",
  ]
  for name, one in sorted(runs.items(), key=lambda item: item[1].get("parameters", 0)):
    lines.append(_row(name, one))
  return "\n".join(lines)


def _row(name: str, one: Mapping[str, Any]) -> str:
  if not one["fits"] or not one.get("predicted"):
    return f"| {name} | | {one.get('topology', '')} | | does not fit | | | |"
  memory, predicted = one["hbm_gib_per_chip"], one["predicted"]
  mesh = " × ".join(f"{axis} {size}" for axis, size in one["mesh"].items())
  cells = [
    f"[{name}](../gin/runs/scale/{name}.gin)",
    f"{one['parameters'] / 1e9:,.1f} B",
    one["topology"],
    mesh,
    f"{memory['peak']:.1f} of {memory['limit']:.0f}",
    f"{one['compile_seconds']:.0f} s" + (" (quick)" if one.get("quick") else ""),
    f"{predicted['step_seconds']:.2f} s",
    f"{100 * predicted['mfu']:.0f} %",
  ]
  return f"| {' | '.join(cells)} |"


def write(text: str, made: str) -> str:
  """A page with its table made anew."""
  head, rest = text.split(MARKS[0])
  tail = rest.split(MARKS[1])[1]
  return f"{head}{MARKS[0]}\n{made}\n{MARKS[1]}{tail}"


def main(argv: list[str] | None = None) -> int:
  """The command line; 1 when a run does not fit."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--output", default=str(ROOT / "benchmarks/results/scale.json"))
  parser.add_argument("--only", action="append", help="name of a run; default: all")
  parser.add_argument("--quick", action="store_true", help="as of mtm compile")
  args = parser.parse_args(argv)
  output = Path(args.output)
  results = json.loads(output.read_text()) if output.exists() else {"runs": {}}
  if importlib.util.find_spec("libtpu") is None:
    print('libtpu is not here, and nothing was compiled: pip install -e ".[tpu]"')
    return 0
  for path in sorted(RUNS.glob("*.gin")):
    if args.only and path.stem not in args.only:
      continue
    flags = command(path)
    print(f"mtm compile {' '.join(flags)}", flush=True)
    found = run(flags, args.quick)
    results["runs"][path.stem] = {"command": " ".join(flags), **found}
    print(_row(path.stem, found), found.get("message", "")[:200], flush=True)
    output.write_text(json.dumps(results, indent=1) + "\n")
  DOCS.write_text(write(DOCS.read_text(), table(results["runs"])))
  return 0 if all(one["fits"] for one in results["runs"].values()) else 1


if __name__ == "__main__":
  sys.exit(main())
