"""The command line of a binary: `--gin_file=F --gin.NAME=VALUE ...` and what goes wrong with it."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mtm.config import check, hints
from mtm.config.config import importable, load
from mtm.config.processes import Processes, number
from mtm.config.program import Program, resolve
from mtm.config.source import SHIPPED, read, render
from mtm.errors import UserError, nearest

_FLAGS = {
  "--gin_file": "a gin file; give the flag once for each, later ones win",
  "--gin.NAME": "the value of a macro, or of scope/function.parameter",
  "--gin_search_paths": "directories to look for gin files in, separated by commas",
  "--tfds_data_dir": "where TensorFlow Datasets keeps its data",
  "--coordinator_address": "HOST:PORT of process 0, where a run is one of several processes",
  "--process_count": "how many processes there are",
  "--process_index": "which of them this is, from 0",
  "--multiprocess": "there are several, and the cluster knows them (a TPU slice, Slurm, ...)",
  "--help": "shows this, and the macros of the gin files given",
}


@dataclasses.dataclass
class Flags:
  """A parsed command line."""

  files: list[str] = dataclasses.field(default_factory=list)
  bindings: list[str] = dataclasses.field(default_factory=list)
  search_paths: list[str] = dataclasses.field(default_factory=list)
  tfds_data_dir: str = ""
  help: bool = False
  processes: Processes = dataclasses.field(default_factory=Processes)


def main(root: Callable[..., Any], argv: Sequence[str] | None = None) -> int:
  """Runs `root` as the flags say.

  A `UserError`, of the config or of the run, is printed as one line; other errors propagate.

  Args:
    root: a function whose arguments the gin files bind.
    argv: the flags; None takes those of the process.

  Returns:
    The exit code: 0, 1 after a `UserError`, 130 after Ctrl-C.
  """
  logging.getLogger("absl").setLevel(logging.WARNING)
  if os.getcwd() not in sys.path and "" not in sys.path:
    sys.path.append(os.getcwd())  # for `import my_tasks`, as under `python -m`
  try:
    flags = parse(sys.argv[1:] if argv is None else argv)
    if flags.tfds_data_dir:
      os.environ["TFDS_DATA_DIR"] = flags.tfds_data_dir
    if flags.help:
      print(usage(root, flags))
      return 0
    if not flags.files:
      raise UserError(f"no gin file: give --gin_file=FILE, such as {_shipped_runs()}")
    flags.processes.start()
    load(root, flags.files, flags.bindings, flags.search_paths).call()
  except UserError as e:
    print("error: " + str(e).replace("\n", " "), file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    return 130
  return 0


def parse(argv: Sequence[str]) -> Flags:
  """Reads the command line.

  Raises:
    UserError: an unknown flag, or one without its value.
  """
  flags, rest = Flags(), list(argv)
  while rest:
    given = rest.pop(0)
    flag, equals, value = given.partition("=")
    if flag in ("--help", "-h"):
      flags.help = True
    elif flag in ("--multiprocess", "--multiprocess_gpu"):  # the latter is T5X's
      flags.processes.several = True
    elif flag.startswith("--gin."):
      flags.bindings.append(given.removeprefix("--gin."))
    elif flag not in _FLAGS:
      raise UserError(_unknown(given, flag))
    elif not equals and not rest:
      raise UserError(f"{flag} needs a value: {flag}=...")
    else:
      _set(flags, flag, value if equals else rest.pop(0))
  return flags


def bindings_of(argv: Sequence[str]) -> list[str]:
  """The bindings that `load` takes, of `--gin.NAME=VALUE` flags.

  Raises:
    UserError: there is another flag.
  """
  flags = parse(argv)
  if flags != Flags(bindings=flags.bindings):
    raise UserError(f"only --gin.NAME=VALUE may stand here, not all of: {' '.join(argv)}")
  return flags.bindings


def usage(root: Callable[..., Any], flags: Flags) -> str:
  """The help text: flags, and each macro of the files with its value, type and place."""
  lines = [(inspect.getdoc(root) or "").split("\n")[0], "", "Flags:"]
  lines += [f"  {flag:<22} {what}" for flag, what in _FLAGS.items()]
  if flags.files:
    program = resolve(read(flags.files, flags.bindings, flags.search_paths))
    lines += ["", "Macros of these gin files:", *_macros(program, root)]
  else:
    lines += ["", f"Shipped runs: {_shipped_runs()}"]
  return "\n".join(lines).strip()


def _macros(program: Program, root: Callable[..., Any]) -> list[str]:
  reached = check.reach(program, program.names.of(importable(root)))
  lines = []
  for name, definitions in sorted(program.macros.items()):
    statement = program.winner(definitions)
    wanted = hints.spell(reached.macros[name]) if name in reached.macros else "not used"
    value = "REQUIRED" if name in reached.missing else render(statement.value)
    lines.append(f"  {name} = {value}  ({wanted}; {statement.place})")
  return lines


def _set(flags: Flags, flag: str, value: str) -> None:
  if flag == "--gin_file":
    flags.files.append(value)
  elif flag == "--gin_search_paths":
    flags.search_paths += value.split(",")
  elif flag == "--coordinator_address":
    flags.processes.coordinator = value
  elif flag == "--process_count":
    flags.processes.count = number(flag, value)
  elif flag == "--process_index":
    flags.processes.index = number(flag, value)
  else:
    flags.tfds_data_dir = value


def _unknown(given: str, flag: str) -> str:
  if not flag.startswith("-"):
    hint = f"; did you mean --gin_file={given}?" if given.endswith(".gin") else ""
    return f"unexpected argument {given!r}{hint or '; everything is given by flags, see --help'}"
  if flag.lstrip("-").isupper():
    return f"unknown flag {flag}; did you mean --gin.{given.lstrip('-')}?"
  return f"unknown flag {flag}{nearest(flag, _FLAGS)}"


def _shipped_runs() -> str:
  runs = [*sorted(SHIPPED.glob("runs/*.gin")), *sorted(SHIPPED.glob("runs/claims/*.gin"))]
  return ", ".join(str(run.relative_to(SHIPPED)) for run in runs) or "runs/pretrain.gin"
