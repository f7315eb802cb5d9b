"""`mtm compile`: whether a run fits a slice of TPU that is not here, and what it would do there."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtm.programs import planned, setup
from mtm.programs.planned import Run
from mtm.report import _files, tables
from mtm.report import scale as shown
from mtm.scale import advise, program, report, topology
from mtm.scale.topology import Topology


def training(
  run: Run, where: Topology, quick: bool = False, advice: bool = True, text: str | None = None
) -> Any:
  """The report of a run's training step; see `mtm.scale.report.of_training`.

  Args:
    run: from the gin files.
    where: the slice.
    quick: see `mtm.scale.program.Compiled`.
    advice: whether to look for a change by which it would fit, if it does not.
    text: where the compiled program goes, as XLA writes it.
  """
  trainer, compiled = run.trainer(where.devices()), functools.partial(program.training, quick=quick)
  made = compiled(trainer)
  found = report.of_training(trainer, where, made)
  if made.executable is None:
    told = [advise.cheapest(trainer, made, where.chip.hbm, _progress, compiled)] if advice else []
    return found | {"advice": told}
  if text is not None:
    _files.write(text, made.text.encode())
  return found


def decoding(
  run: Run,
  where: Topology,
  rows: int,
  prompt: int,
  new: int,
  quick: bool = False,
  text: str | None = None,
) -> Any:
  """The report of greedy generation with a run's model; see `mtm.scale.report.of_decoding`."""
  model, plan, params = run.generator(where.devices())
  made = program.decoding(model, plan, params, rows, prompt, new, quick)
  if made.executable is not None and text is not None:
    _files.write(text, made.text.encode())
  found = report.of_decoding(plan, where, made, params, rows)
  return found | {"batch": {"rows": rows, "prompt": prompt, "new": new}}


def main(argv: Sequence[str] | None = None) -> int:
  """The command line; prints the report, and returns 1 where the program does not fit."""
  parser = arguments("mtm compile", __doc__)
  parser.add_argument("--decode", action="store_true", help="generation instead of training")
  parser.add_argument("--batch", type=int, help="of --decode: rows; without it BATCH_SIZE")
  parser.add_argument("--prompt", type=int, default=512, help="of --decode: tokens of a prompt")
  parser.add_argument("--length", type=int, default=128, help="of --decode: tokens to generate")
  parser.add_argument("--output", help="a file for the report as JSON; a picture goes beside it")
  parser.add_argument("--quick", action="store_true", help="a fifth of the time: speed is left out")
  parser.add_argument("--text", help="a file for the compiled program, as XLA writes it")
  parser.add_argument("--no-advice", action="store_true", help="try no changes if it does not fit")
  known, rest = parser.parse_known_args(argv)
  where = topology.parse(known.topology, known.slices)
  setup.start()
  run = planned.of(known.gin_file, rest, known.gin_search_paths)
  if known.decode:
    rows = known.batch or run.batch_size
    found = decoding(run, where, rows, known.prompt, known.length, known.quick, known.text)
  else:
    found = training(run, where, known.quick, not known.no_advice, known.text)
  title = ", ".join(known.gin_file)
  tables.show(shown.table(found, title))
  if known.output:
    _files.write(known.output, (json.dumps(found, indent=2) + "\n").encode())
    shown.picture(found, Path(known.output).with_suffix(".png"), f"{title} on {where.name}")
  return 0 if found["fits"] else 1


def arguments(name: str, about: str | None) -> argparse.ArgumentParser:
  """What every verb about slices that are not here is told."""
  parser = argparse.ArgumentParser(name, description=about, allow_abbrev=False)
  parser.add_argument("--gin_file", action="append", required=True, help="as for mtm train")
  parser.add_argument("--gin_search_paths", default="", help="further folders, comma-separated")
  parser.add_argument("--topology", required=True, help="such as v5p:8x8x8 or v5e:16x16")
  parser.add_argument("--slices", type=int, default=1, help="how many of them")
  return parser


def _progress(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
  from mtm import cli

  sys.exit(cli.main(["compile", *sys.argv[1:]]))
