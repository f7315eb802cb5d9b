"""Few-shot results as tables and as a picture of a metric against the number of exemplars."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from mtm.report import _files
from mtm.report.plots import _HELD_OUT, _INK, _MARKERS
from mtm.report.tables import _table

Row = Mapping[str, Any]
_LEGEND = 12  # lines that are named; more make no legend
_PERCENT = 1.5  # values up to it are shares


def cluster_tables(results: Mapping[str, Any]) -> list[Table]:
  """A table for each cluster: a row for each of its sets, a column for each number of exemplars,
  and the means below.

  Args:
    results: see `mtm.evaluation.fewshot.FewShot.run`.
  """
  tables = []
  for cluster in dict.fromkeys(row["cluster"] for row in results["sets"]):
    rows = [row for row in results["sets"] if row["cluster"] == cluster]
    means = [row for row in results["clusters"] if row["cluster"] == cluster]
    ks = sorted({row["k"] for row in rows})
    table = _table(cluster, footer=False)
    table.add_column("set")
    table.add_column("metric")
    for k in ks:
      table.add_column(f"{k}-shot", justify="right")
    for name, metric in dict.fromkeys((row["set"], row["metric"]) for row in rows):
      table.add_row(Text(name), Text(metric), *_cells(rows, ks, set=name, metric=metric))
    table.add_section()
    for metric in dict.fromkeys(row["metric"] for row in means):
      cells = _cells(means, ks, metric=metric)
      table.add_row(Text("mean", "bold"), Text(metric), *cells)
    tables.append(table)
  return tables


def _cells(rows: Sequence[Row], ks: Sequence[int], **wanted: str) -> list[Text]:
  found = {r["k"]: r for r in rows if all(r[name] == value for name, value in wanted.items())}
  return [Text(shown(found[k]) if k in found else "") for k in ks]


def shown(row: Row) -> str:
  """A value with its standard error: shares in per cent."""
  scale = 100 if abs(row["value"]) <= _PERCENT else 1
  error = row["stderr"]
  more = "" if math.isnan(error) else f" ± {scale * error:.1f}"
  return f"{scale * row['value']:.1f}{more}"


def harness_table(results: Mapping[str, Any]) -> Table:
  """Task, metric, value and standard error, of what `lm_eval.simple_evaluate` returns."""
  table = _table("lm-evaluation-harness", footer=False)
  for head, justify in (("task", "left"), ("metric", "left"), ("value", "right"), ("±", "right")):
    table.add_column(head, justify=justify)  # type: ignore[arg-type]
  for task, values in results["results"].items():
    for name, value in values.items():
      metric, _, how = name.partition(",")
      if not how or metric.endswith("_stderr") or not isinstance(value, int | float):
        continue
      error = values.get(f"{metric}_stderr,{how}")
      told = f"{error:.4f}" if isinstance(error, float) else ""
      shown = metric if how == "none" else name
      table.add_row(Text(task), Text(shown), f"{value:.4f}", told)
  return table


def shots_curve(
  results: Mapping[str, Any], path: str | os.PathLike[str], title: str = "Against exemplars"
) -> Path:
  """Draws each set's main metric, and the mean of each cluster of several, over the number of
  exemplars, with bars of one standard error, as a PNG; returns its path.

  Args:
    results: see `mtm.evaluation.fewshot.FewShot.run`.
    path: the file, written atomically; its directory is made.
    title: of the picture.

  Raises:
    UserError: the file cannot be written.
  """
  from matplotlib.figure import Figure  # half a second, which a check of gin files need not pay

  metrics = list(dict.fromkeys(row["metric"] for row in results["sets"]))
  figure = Figure(figsize=(8, 4.4 * len(metrics) + 0.4), dpi=150, layout="constrained")
  figure.set_facecolor("white")
  for number, metric in enumerate(metrics):
    axes = figure.add_subplot(len(metrics), 1, number + 1)
    _panel(axes, results, metric)
  figure.suptitle(title, color=_INK, weight="bold", size=13)
  file = io.BytesIO()
  figure.savefig(file, format="png")
  return _files.write(path, file.getvalue())


def _panel(axes: Any, results: Mapping[str, Any], metric: str) -> None:
  rows = [row for row in results["sets"] if row["metric"] == metric]
  ks = sorted({row["k"] for row in rows})
  place = {k: i for i, k in enumerate(ks)}  # evenly: 0, 1, 2, 4, 8 have no common scale
  names = list(dict.fromkeys(row["set"] for row in rows))
  wide = [r for r in results["clusters"] if r["metric"] == metric and r["sets"] > 1]
  clusters = list(dict.fromkeys(row["cluster"] for row in wide))
  lines = len(names) + len(clusters)

  def aside(number: int) -> dict[int, float]:
    """Where a line stands: bars of two lines do not hide each other."""
    return {k: x + min(0.02, 0.1 / lines) * (number - (lines - 1) / 2) for k, x in place.items()}

  for number, name in enumerate(names):
    own = [row for row in rows if row["set"] == name]
    _line(axes, own, aside(number), name, number, faint=own[0]["cluster"] in clusters)
  for number, cluster in enumerate(clusters, len(names)):
    own = [row for row in wide if row["cluster"] == cluster]
    _line(axes, own, aside(number), f"{cluster}, mean", number, faint=False)
  axes.set_xticks(range(len(ks)), [str(k) for k in ks])
  axes.set_xlabel("exemplars before the question", color=_INK)
  axes.set_ylabel(metric.replace("_", " "), color=_INK)
  axes.margins(x=0.06)
  axes.grid(axis="y", color="#e6e8eb", lw=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(colors=_INK, length=0)
  for side in ("top", "right", "left", "bottom"):
    axes.spines[side].set_visible(side == "bottom")
    axes.spines[side].set_color("#b0b7bf")
  if all(0 <= row["value"] <= 1 for row in rows):
    axes.set_ylim(-0.03, 1.03)
  if lines <= _LEGEND:
    axes.legend(
      loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelcolor=_INK, fontsize=9
    )


def _line(
  axes: Any, rows: Sequence[Row], place: Mapping[int, float], label: str, number: int, faint: bool
) -> None:
  rows = sorted(rows, key=lambda row: row["k"])
  axes.errorbar(
    [place[row["k"]] for row in rows],
    [row["value"] for row in rows],
    yerr=[0.0 if math.isnan(row["stderr"]) else row["stderr"] for row in rows],
    color=_HELD_OUT[number % len(_HELD_OUT)],
    marker="" if faint else _MARKERS[number % len(_MARKERS)],
    linestyle="--" if faint else "-",
    lw=1.0 if faint else 2.0,
    alpha=0.55 if faint else 1.0,
    ms=6,
    mec="white",
    mew=0.7,
    capsize=2.5,
    elinewidth=1.0,
    label=label,
    zorder=2 if faint else 3,
  )
