"""Tables for terminals and pipes: the parameters of a model, and measured ratios."""

from __future__ import annotations

import dataclasses
import io
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mtm.report import _words

_WHOLE = "-"  # an axis that is not cut


@dataclasses.dataclass(frozen=True)
class Parameter:
  """One row of the parameter table.

  Attributes:
    name: its path, such as `decoder/stack/0/mixer/query/kernel`.
    shape: its sizes.
    axes: a logical axis name for each dimension.
    sharding: for each dimension the mesh axis or axes that cut it, or None.
    count: how many numbers it holds.
    bytes_per_device: what its share takes on one device.
  """

  name: str
  shape: Sequence[int]
  axes: Sequence[str | None]
  sharding: Sequence[str | Sequence[str] | None]
  count: int
  bytes_per_device: int


@dataclasses.dataclass(frozen=True)
class Ratio:
  """One row of a benchmark's table: ours over theirs, so that less is better.

  Attributes:
    name: what was measured.
    ours, theirs: medians, in the table's unit.
    ratio: the median of the pairs' ratios, which drifts less than the ratio of the medians.
    low, high: the quartiles of the pairs' ratios.
    goal: what the ratio should not exceed, or None.
  """

  name: str
  ours: float
  theirs: float
  ratio: float
  low: float
  high: float
  goal: float | None = None

  @classmethod
  def of(
    cls, name: str, ours: Sequence[float], theirs: Sequence[float], goal: float | None = None
  ) -> Ratio:
    """The row of paired runs: `ours[i]` and `theirs[i]` were measured one after the other.

    Raises:
      ValueError: no runs, or not as many of the one as of the other.
    """
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    if not pairs:
      raise ValueError(f"{name}: no runs to compare")
    low, middle, high = _quartiles(pairs)
    return cls(name, statistics.median(ours), statistics.median(theirs), middle, low, high, goal)


def parameters(rows: Iterable[Parameter], title: str | None = None) -> Table:
  """The parameter table, with totals in its last row."""
  rows = list(rows)
  table = _table(title)
  for head in ("parameter", "shape", "axes", "mesh"):
    table.add_column(head, overflow="fold", footer="total" if head == "parameter" else "")
  count, memory = sum(row.count for row in rows), sum(row.bytes_per_device for row in rows)
  table.add_column("count", justify="right", overflow="fold", footer=f"{count:,}")
  table.add_column("per device", justify="right", overflow="fold", footer=_words.size(memory))
  for row in rows:
    table.add_row(
      Text(row.name),
      Text(" × ".join(map(str, row.shape)) or "scalar"),
      Text(", ".join(axis or _WHOLE for axis in row.axes)),
      Text(", ".join(map(_cut, row.sharding)), style="cyan"),
      f"{row.count:,}",
      _words.size(row.bytes_per_device),
    )
  return table


def ratios(
  rows: Iterable[Ratio],
  title: str | None = None,
  unit: str = "ms",
  ours: str = "mtm",
  theirs: str = "theirs",
) -> Table:
  """The table of a benchmark.

  Args:
    rows: the measurements.
    title: what was compared, on what.
    unit: of `Ratio.ours` and `Ratio.theirs`.
    ours, theirs: the contenders' names.
  """
  rows = list(rows)
  table = _table(title, footer=False)
  table.add_column("", overflow="fold")
  for head in (f"{ours}\n{unit}", f"{theirs}\n{unit}", "ratio", "quartiles"):
    table.add_column(head, justify="right", overflow="fold")
  with_goals = any(row.goal is not None for row in rows)
  if with_goals:
    table.add_column("goal", overflow="fold")
  for row in rows:
    cells: list[str | Text] = [
      Text(row.name), f"{row.ours:.4g}", f"{row.theirs:.4g}",
      Text(f"{row.ratio:.3f}", "bold"), f"{row.low:.2f} to {row.high:.2f}",
    ]  # fmt: skip
    if with_goals:
      cells.append(_verdict(row))
    table.add_row(*cells)
  return table


def plain(*heads: str) -> Table:
  """An empty table of a name and numbers: the first column stands left, the others right."""
  table = _table(None, footer=False)
  for number, head in enumerate(heads):
    table.add_column(head, justify="right" if number else "left", overflow="fold")
  return table


def show(renderable: Any, console: Console | None = None) -> None:
  """Prints a table: folded to a terminal's width, at full width into a pipe."""
  console = console or Console()
  if console.is_terminal or console.is_jupyter:
    console.print(renderable)
  else:
    console.print(text(renderable), markup=False, highlight=False, soft_wrap=True, end="")


def text(renderable: Any) -> str:
  """A table as plain text, as wide as it needs to be, without trailing blanks."""
  file = io.StringIO()
  console = Console(file=file, width=10_000, color_system=None)
  console.width = max(Measurement.get(console, console.options, renderable).maximum, 1)
  console.print(renderable)
  return "".join(line.rstrip() + "\n" for line in file.getvalue().splitlines())


def _table(title: str | None, footer: bool = True) -> Table:
  return Table(
    title=None if title is None else Text(title),
    title_style="bold",
    title_justify="left",
    box=SIMPLE_HEAD,
    show_footer=footer,
    footer_style="bold",
    header_style="bold",
    pad_edge=False,
  )


def _cut(axes: str | Sequence[str] | None) -> str:
  if not axes:
    return _WHOLE
  return axes if isinstance(axes, str) else " × ".join(axes)


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
  if len(values) == 1:
    return values[0], values[0], values[0]
  low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
  return low, middle, high


def _verdict(row: Ratio) -> Text:
  if row.goal is None:
    return Text("")
  met = row.ratio <= row.goal
  return Text(f"≤ {row.goal:.2f} {'met' if met else 'missed'}", "green" if met else "bold red")
