"""Tables add up, and lose no letter on the way into a pipe."""

from __future__ import annotations

import io
import statistics

import pytest
from rich.console import Console

from mtm.report import tables
from mtm.report.tables import Parameter, Ratio

_LONG = "decoder/" + "/".join(f"stack_{i}" for i in range(30)) + "/kernel"
_ROWS = [
  Parameter(
    "embed/embedding", (8192, 256), ("vocab", "embed"), ("tensor", ("data", "fsdp")), 2**21, 2**20
  ),
  Parameter(_LONG, (4, 256, 64), ("layers", "embed", None), (None, "fsdp", None), 65_536, 2**17),
  Parameter("scale", (), (), (), 1, 4),
]  # fmt: skip


def _cells(text: str, name: str) -> list[str]:
  (line,) = [line for line in text.splitlines() if line.strip().startswith(name)]
  return [cell.strip() for cell in line.strip().split("   ") if cell.strip()]


def test_each_parameter_has_its_line_with_every_fact() -> None:
  text = tables.text(tables.parameters(_ROWS))
  assert _cells(text, "embed/embedding") == [
    "embed/embedding", "8192 × 256", "vocab, embed", "tensor, data × fsdp", "2,097,152", "1 MiB"
  ]  # fmt: skip
  assert _cells(text, _LONG)[1:4] == ["4 × 256 × 64", "layers, embed, -", "-, fsdp, -"]
  assert _cells(text, "scale") == ["scale", "scalar", "1", "4 B"]


def test_totals_are_sums() -> None:
  count = sum(row.count for row in _ROWS)
  assert _cells(tables.text(tables.parameters(_ROWS)), "total") == [
    "total",
    f"{count:,}",
    "1.13 MiB",
  ]


def test_a_pipe_gets_long_names_whole_on_one_line() -> None:
  console = Console(file=io.StringIO(), width=80)
  tables.show(tables.parameters(_ROWS), console)
  assert _LONG in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_narrow_terminal_folds_names_and_drops_nothing() -> None:
  console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
  tables.show(tables.parameters(_ROWS), console)
  drawn = console.file.getvalue()  # type: ignore[attr-defined]
  assert "…" not in drawn and all(len(line) <= 80 for line in drawn.splitlines())
  first_column = "".join(line[1:14].strip() for line in drawn.splitlines())
  assert _LONG in first_column


def test_names_are_no_markup() -> None:
  rows = [Parameter("a[bold]/b[0]", (1,), ("[red]",), (None,), 1, 4)]
  text = tables.text(tables.parameters(rows, title="[1] x"))
  assert "a[bold]/b[0]" in text and "[red]" in text and "[1] x" in text


def test_a_ratio_is_the_median_of_the_pairs() -> None:
  ours, theirs = [10.0, 12.0, 30.0, 11.0, 9.0], [20.0, 20.0, 40.0, 20.0, 20.0]
  row = Ratio.of("step", ours, theirs)
  pairs = sorted(a / b for a, b in zip(ours, theirs, strict=True))
  assert (row.ours, row.theirs) == (statistics.median(ours), statistics.median(theirs))
  assert (row.low, row.ratio, row.high) == (pairs[1], pairs[2], pairs[3])


def test_one_pair_is_enough_and_none_or_odd_ones_are_refused() -> None:
  row = Ratio.of("step", [1.0], [2.0])
  assert (row.low, row.ratio, row.high) == (0.5, 0.5, 0.5)
  with pytest.raises(ValueError, match="no runs"):
    Ratio.of("step", [], [])
  with pytest.raises(ValueError, match="shorter"):
    Ratio.of("step", [1.0, 2.0], [1.0])


def test_the_ratio_table_says_which_goals_were_met() -> None:
  rows = [
    Ratio.of("training step", [3.0], [4.0], goal=0.8),
    Ratio.of("decoding", [3.0], [4.0], goal=0.5),
    Ratio.of("loading", [3.0], [4.0]),
  ]
  text = tables.text(tables.ratios(rows, "mtm against them", "s", theirs="transformers"))
  assert _cells(text, "training step") == [
    "training step", "3", "4", "0.750", "0.75 to 0.75", "≤ 0.80 met"
  ]  # fmt: skip
  assert _cells(text, "decoding")[-1] == "≤ 0.50 missed"
  assert _cells(text, "loading")[-1] == "0.75 to 0.75"
  assert "transformers" in text and text.startswith("mtm against them")


def test_without_goals_there_is_no_column_of_them() -> None:
  assert "goal" not in tables.text(tables.ratios([Ratio.of("x", [1.0], [2.0])]))
