"""The picture shows the logged losses: read back from the axes that were drawn."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from matplotlib import image

from mtm.report import plots

_PNG = b"\x89PNG\r\n\x1a\n"


def _rows(steps: int = 300, split: str = "train", every: int = 1) -> list[dict[str, Any]]:
  return [
    {"step": s, "split": split, "loss": 2 + 6 * 0.97**s, "tokens": 1000.0 * s}
    for s in range(every, steps + 1, every)
  ]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
  """The axes of every figure saved."""
  axes: list[Any] = []
  save = matplotlib.figure.Figure.savefig

  def spy(self: Any, *args: Any, **options: Any) -> None:
    save(self, *args, **options)
    axes.append(self.axes[0])

  monkeypatch.setattr(matplotlib.figure.Figure, "savefig", spy)
  return axes


def _line(axes: Any, label: str) -> Any:
  (line,) = [line for line in axes.get_lines() if str(line.get_label()).startswith(label)]
  return line


def test_the_picture_is_a_png_that_is_not_blank(tmp_path: Path) -> None:
  path = plots.loss_curve(_rows(), tmp_path / "plots" / "loss.png")
  assert path.read_bytes().startswith(_PNG)
  pixels = image.imread(path)
  assert pixels.shape[0] >= 600 and pixels.shape[1] >= 1000
  ink = (pixels[..., :3] < 0.8).any(axis=-1).mean()
  assert 0.005 < ink < 0.2  # lines and letters, not an empty or a filled sheet


def test_axes_have_names_units_and_a_title(tmp_path: Path, drawn: list[Any]) -> None:
  plots.loss_curve(_rows(), tmp_path / "loss.png")
  (axes,) = drawn
  assert axes.get_xlabel() == "step"
  assert axes.get_ylabel() == "loss (nats/token)"
  assert axes.figure.get_suptitle() == "Loss after 300 steps"
  assert [a.get_xlabel() for a in axes.child_axes] == ["tokens trained on"]


def test_held_out_losses_are_drawn_where_they_were_logged(tmp_path: Path, drawn: list[Any]) -> None:
  a, b = _rows(split="code", every=50), _rows(split="docstrings", every=100)
  plots.loss_curve([*b, *_rows(), *reversed(a)], tmp_path / "loss.png")
  for rows, label in ((a, "code"), (b, "docstrings")):
    points = [(row["step"], row["loss"]) for row in rows]
    np.testing.assert_array_equal(_line(drawn[0], label).get_xydata(), points)
  labels = [text.get_text() for text in drawn[0].get_legend().get_texts()]
  assert [label.split(":")[0] for label in labels] == ["train, smoothed", "docstrings", "code"]
  assert labels[-1] == f"code: {a[0]['loss']:.3f} → {a[-1]['loss']:.3f}"


def test_all_held_out_losses_and_late_training_lie_in_the_frame(
  tmp_path: Path, drawn: list[Any]
) -> None:
  held_out = [{"step": 0, "split": "code", "loss": 11.0}, *_rows(split="code", every=100)]
  plots.loss_curve([*_rows(), *held_out], tmp_path / "loss.png")
  low, high = drawn[0].get_ylim()
  assert low < min(row["loss"] for row in _rows()) and high > 11.0


def test_a_short_run_is_shown_whole_and_as_it_is(tmp_path: Path, drawn: list[Any]) -> None:
  rows = _rows(49)
  plots.loss_curve(rows, tmp_path / "loss.png")
  line = _line(drawn[0], "train: ")
  np.testing.assert_array_equal(line.get_ydata(), [row["loss"] for row in rows])
  assert drawn[0].get_ylim()[1] > rows[0]["loss"]


def test_the_token_axis_puts_tokens_at_their_steps(tmp_path: Path, drawn: list[Any]) -> None:
  rows = [{**row, "tokens": row["step"] ** 2} for row in _rows(100)]  # any growing relation
  plots.loss_curve(rows, tmp_path / "loss.png")
  (top,) = drawn[0].child_axes
  ticks, labels = top.get_xticks(), [t.get_text() for t in top.get_xticklabels()]
  assert labels == ["2k", "4k", "6k", "8k", "10k"]
  # Between two steps tokens are interpolated, which is off by less than a step.
  np.testing.assert_allclose(ticks, np.sqrt([2e3, 4e3, 6e3, 8e3, 1e4]), atol=0.1)


def test_of_two_rows_for_a_step_the_later_one_counts(tmp_path: Path, drawn: list[Any]) -> None:
  rows = [{"step": 5, "split": "code", "loss": 9.0}, {"step": 5, "split": "code", "loss": 3.0}]
  plots.loss_curve(rows, tmp_path / "loss.png")
  np.testing.assert_array_equal(_line(drawn[0], "code").get_xydata(), [(5, 3.0)])


def test_losses_that_are_not_finite_are_marked_and_counted(
  tmp_path: Path, drawn: list[Any]
) -> None:
  rows = _rows()
  rows[100]["loss"], rows[101]["loss"] = float("nan"), float("inf")
  plots.loss_curve(rows, tmp_path / "loss.png")
  mark = _line(drawn[0], "not finite: 2 logged steps, first 101")
  assert mark.get_xdata()[0] == 101
  assert np.isfinite(drawn[0].get_ylim()).all()


@pytest.mark.parametrize(
  "rows",
  [
    [],
    [{"step": 3, "split": "train", "seconds": 1.0}],
    [{"step": 1, "split": "train", "loss": 9.0, "tokens": 5}],
    [{"step": 1, "split": "train", "loss": float("nan")}],
    [{"step": 1, "split": "train", "loss": 2.0}, {"step": 2, "split": "train", "loss": 2.0}],
    [{"step": 7, "split": "code", "loss": float("inf")}],
    [{"step": s, "split": "train", "loss": 2.0, "tokens": 7} for s in range(5)],
  ],
)
def test_odd_records_still_give_a_picture(rows: list[dict[str, Any]], tmp_path: Path) -> None:
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    path = plots.loss_curve(rows, tmp_path / "loss.png")
  assert path.read_bytes().startswith(_PNG)


def test_smoothing_keeps_a_straight_line_and_calms_noise() -> None:
  line = np.linspace(5, 3, 1000)
  noise = np.random.default_rng(0).normal(size=1000)
  # Symmetric windows cannot move a straight line, except at its end, where they are cut off.
  np.testing.assert_allclose(plots.smoothed(line)[:950], line[:950], atol=1e-9)
  # Two averages over 41 values leave about a seventh of independent noise's deviation.
  assert plots.smoothed(noise)[200:800].std() < 0.2 * noise.std()


def test_smoothing_skips_what_is_not_finite() -> None:
  values = np.full(200, 3.0)
  values[50], values[60:90] = np.nan, np.inf
  np.testing.assert_allclose(plots.smoothed(values)[[50, 49, 120]], 3.0)


def test_the_first_loss_is_not_smoothed_away() -> None:
  assert plots.smoothed(np.array([9.0] + [2.0] * 999))[0] == 9.0
