"""The report of a program compiled for a slice, as tables and as a picture."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from mtm.report import _files, _words, tables

GIB = 2**30
_COLOURS = {
  "parameters": "#0072b2", "optimizer": "#56b4e9", "batch": "#cccccc", "activations": "#d55e00",
  "gradients": "#e69f00", "temporaries": "#cc79a7", "program": "#5b6b7b",
}  # fmt: skip


def table(report: Mapping[str, Any], title: str) -> Group:
  """What a person wants to know of it.

  Args:
    report: see `mtm.scale.report`.
    title: what was compiled.
  """
  memory = report["hbm_gib_per_chip"]
  verdict = Text("fits", "bold green") if report["fits"] else Text("does not fit", "bold red")
  peak = f"{memory['peak']:.2f}" if "peak" in memory else "more"
  mesh = " × ".join(f"{name}={size}" for name, size in report["mesh"].items()) or "one device"
  head = [
    Text.assemble((title, "bold"), ": ", verdict, f" on {report['topology']}, {mesh}"),
    Text(
      f"{_words.count(report['parameters'])} parameters, {report['chips']:,} chips; {peak} of"
      f" {memory['limit']:.1f} GiB on each; compiled in"
      f" {_words.duration(report['compile_seconds'])}"
    ),
  ]
  parts: list[Any] = [*head, _memory(memory)]
  if report["collectives"]:
    parts.append(_collectives(report["collectives"]))
  if report["predicted"]:
    parts.append(_predicted(report["predicted"]))
  if report["replicated"]:
    parts.append(_replicated(report["replicated"]))
  if report["message"]:
    parts.append(Text(shortened(report["message"]), "red"))
  for advice in report.get("advice", ()):
    parts.append(Text(advice, "bold"))
  return Group(*parts)


def shortened(message: str, lines: int = 12) -> str:
  """The compiler's words on memory: its first lines, without source locations."""
  kept = [line.rstrip() for line in message.splitlines() if line.strip()]
  kept = [line for line in kept if not re.match(r"\s*(=+$|Extra memory|XLA label)", line)]
  return "\n".join(kept[:lines])


def picture(report: Mapping[str, Any], path: str | os.PathLike[str], title: str) -> Path:
  """Draws the memory of a chip, and where a step's time would go, as a PNG; returns its path.

  Raises:
    UserError: the file cannot be written.
  """
  from matplotlib.figure import Figure

  memory, predicted = report["hbm_gib_per_chip"], report["predicted"]
  figure = Figure(figsize=(8, 3.2), dpi=150, layout="constrained", facecolor="white")
  axes = figure.subplots(2, 1)
  left = 0.0
  for name, colour in _COLOURS.items():
    if memory.get(name):
      axes[0].barh([0], [memory[name]], left=left, color=colour, label=name)
      left += memory[name]
  axes[0].axvline(memory["limit"], color="#c1121f")
  axes[0].set(yticks=[], xlabel="GiB on each chip (red: there is no more)")
  axes[0].legend(ncols=7, fontsize=6, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
  if predicted:
    names = ("products", "memory", "links", "exposed", "step")
    axes[1].barh(names, [predicted[f"{name}_seconds"] for name in names], color="#56b4e9")
  axes[1].set(xlabel="predicted seconds")
  figure.suptitle(title, fontsize=10)
  file = io.BytesIO()
  figure.savefig(file, format="png")
  return _files.write(path, file.getvalue())


def _memory(memory: Mapping[str, float]) -> Any:
  grid = tables.plain("memory of a chip", "GiB")
  for name, value in memory.items():
    if name not in ("peak", "limit") and value:
      grid.add_row(name, f"{value:.3f}")
  return grid


def _collectives(kinds: Mapping[str, Mapping[str, float]]) -> Any:
  grid = tables.plain("collective", "runs", "GiB", "ICI GiB", "DCN GiB", "seconds")
  for kind, one in sorted(kinds.items(), key=lambda item: -item[1]["seconds"]):
    numbers = (f"{one[name]:.3g}" for name in ("gib", "ici_gib", "dcn_gib", "seconds"))
    grid.add_row(kind, f"{one['runs']:,}", *numbers)
  return grid


def _predicted(predicted: Mapping[str, Any]) -> Any:
  grid = tables.plain("predicted", "")
  for name, value in predicted.items():
    if name.endswith("_seconds"):
      grid.add_row(name.removesuffix("_seconds"), f"{value:.3g} s")
  if "mfu" in predicted:
    grid.add_row("model FLOPs utilisation, at most", _words.share(predicted["mfu"]))
  if "tokens_per_second" in predicted:
    grid.add_row("tokens a second, at most", f"{predicted['tokens_per_second']:,.0f}")
  return grid


def _replicated(giants: list[Mapping[str, Any]]) -> Any:
  grid = tables.plain("whole on every chip", "GiB", "")
  for giant in giants:
    grid.add_row(giant["name"], f"{giant['gib']:.3f}", giant["why"])
  return grid


def pareto(rows: Sequence[tuple[str, Mapping[str, Any]]], best: Set[int], title: str) -> Any:
  """What was tried, with those marked of which none other is both quicker and smaller.

  Args:
    rows: what was tried, and its report.
    best: the numbers of those to mark.
    title: what was planned.
  """
  grid = tables.plain(title, "predicted step", "MFU", "GiB a chip", "")
  for number, (told, report) in enumerate(rows):
    peak = report["hbm_gib_per_chip"].get("peak")
    gib = f"{peak:.2f}" if peak is not None else ""
    if report["predicted"]:
      step, mfu = report["predicted"]["step_seconds"], report["predicted"]["mfu"]
      mark = "best of its size" if number in best else ""
      grid.add_row(told, f"{step:.3g} s", _words.share(mfu), gib, mark)
    else:
      grid.add_row(told, "does not fit", "", gib, "")
  return grid
