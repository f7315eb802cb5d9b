"""The summary at the end of a training run."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from mtm.programs.history import History, held_out, parameter_count
from mtm.report.summary import Summary, compressed_bits_per_byte
from mtm.training import metrics
from mtm.training.loop import Run


def summary(run: Run, history: History, held_out_text: Callable[[], bytes] | None) -> Summary:
  """Everything that a person wants to know after a run.

  Args:
    run: at its end.
    history: what earlier processes of the same MODEL_DIR did.
    held_out_text: the bytes that the held-out bits per byte are about; compressors get them too.
  """
  rows = metrics.read(run.model_dir)
  splits = held_out(rows)
  rivals = compressed_bits_per_byte(held_out_text()) if held_out_text is not None else {}
  return Summary(
    step=run.step,
    total=run.total,
    tokens=run.tokens,
    parameters=parameter_count(run),
    losses={name: values["loss"] for name, values in splits.items() if "loss" in values},
    bits_per_byte={
      name: {"this model": values["bits_per_byte"], **rivals}
      for name, values in splits.items()
      if "bits_per_byte" in values
    },
    ledger=history.ledger(run),
    waiting=run.clock.waited / run.clock.busy if run.clock.busy else 0.0,
    paths=_paths(run.model_dir),
    commands=commands(run),
    stopped=run.stop,
  )


def commands(run: Run) -> dict[str, str]:
  """The next things to try, by what they do."""
  home, mtm = shlex.quote(str(run.model_dir)), shlex.quote(_mtm())
  checkpoint = _flag("CHECKPOINT_PATH", str(run.model_dir))
  longer = _flag("MODEL_DIR", f"{run.model_dir}_longer")
  return {
    "continue a text of your own": (
      f"echo 'import os' | {mtm} infer --gin_file={home}/model.gin --gin_file=runs/generate.gin"
      f" {checkpoint}"
    ),
    "train twice as long": (
      f"{mtm} train --gin_file={home}/config.gin --gin.TRAIN_STEPS={2 * run.total} {longer}"
    ),
    "see what was learned, tensor by tensor": f"{mtm} inspect {home}",
  }


def _flag(name: str, value: str) -> str:
  """A flag that gives a macro this text, quoted where the shell or gin would read it otherwise."""
  plain = re.fullmatch(r"[A-Za-z_./][\w./-]*", value)
  return shlex.quote(f"--gin.{name}={value if plain else repr(value)}")


def _mtm() -> str:
  """The command as it can be typed here: its path where it is not on the PATH."""
  beside = Path(sys.executable).with_name("mtm")
  if shutil.which("mtm") is not None or not beside.exists():
    return "mtm"
  here = Path.cwd()
  return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)


def _paths(home: Path) -> dict[str, str]:
  names = {
    "card": "card.md",
    "loss curve": "plots/loss.png",
    "load of experts": "plots/experts.png",
    "alarms": "alarms.jsonl",
    "samples": "samples",
    "metrics": "metrics.jsonl",
    "checkpoints": "checkpoints",
    "configuration": "config.gin",
  }
  return {what: str(home / name) for what, name in names.items() if (home / name).exists()}
