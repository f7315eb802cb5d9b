"""The loss curve of a run as a picture."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtm.report import _files, _words

_TRAIN = "#5b6b7b"
# Okabe and Ito's colours (2008), which stay apart for colour-blind readers too.
_HELD_OUT = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = "osD^vP"
_BAD = "#c1121f"
_INK = "#30363d"
_MANY = 50  # values from which on a curve is smoothed, and its first fall may leave the frame
_DRAWN = 4000  # raw points at most: more are finer than a pixel


def loss_curve(
  rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str], title: str | None = None
) -> Path:
  """Draws training and held-out losses over steps, in nats a token, as a PNG; returns its path.

  Args:
    rows: the objects of `metrics.jsonl`: `step`, `split` ("train" or a held-out split's name),
      `loss`, and in rows of split "train" perhaps `tokens` seen so far. Rows without a loss are
      skipped; a loss that is not finite is marked where it happened.
    path: the file, written atomically; its directory is made.
    title: None: one that says how far the run got.

  Raises:
    UserError: the file cannot be written.
  """
  from matplotlib.figure import Figure  # half a second, which a check of gin files need not pay

  curves = _curves(rows)
  figure = Figure(figsize=(8, 4.8), dpi=150, layout="constrained", facecolor="white")
  axes = figure.add_subplot()
  train = curves.pop("train", None)
  shown = []
  if train is not None:
    shown += _draw_train(axes, *train[:2])
  for number, (split, (steps, losses, _)) in enumerate(curves.items()):
    _draw_held_out(axes, steps, losses, split, number)
    shown.append((steps, losses, True))
  _frame(axes, shown)
  if train is not None:
    _token_axis(axes, train[0], train[2])
  last = max((int(steps[-1]) for steps, _, _ in shown), default=0)
  figure.suptitle(
    title or f"Loss after {last:,} step{'s' * (last != 1)}", color=_INK, weight="bold", size=13
  )
  file = io.BytesIO()
  figure.savefig(file, format="png")
  return _files.write(path, file.getvalue())


Curve = tuple[np.ndarray, np.ndarray, np.ndarray]  # steps, losses, tokens (NaN where not told)


def _curves(rows: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
  """Split → its curve in order of steps; of two rows for one step the later one counts."""
  points: dict[str, dict[int, tuple[float, float]]] = {}
  for row in rows:
    if "loss" in row:
      told = float(row["loss"]), float(row.get("tokens", np.nan))
      points.setdefault(row.get("split", "train"), {})[int(row["step"])] = told
  curves = {}
  for split, by_step in points.items():
    steps = np.array(sorted(by_step))
    losses, tokens = np.array([by_step[step] for step in steps], np.float64).T
    curves[split] = steps, losses, tokens
  return curves


def _draw_train(axes: Any, steps: np.ndarray, losses: np.ndarray) -> list[Any]:
  """Raw losses faint, smoothed ones bold. Returns what the frame must hold: (x, y, all of it)."""
  thin = slice(None, None, -(-len(steps) // _DRAWN))
  axes.plot(steps[thin], _finite(losses)[thin], color=_TRAIN, alpha=0.28, lw=0.8)
  smooth = smoothed(losses)
  label = _labelled("train, smoothed" if len(steps) >= _MANY else "train", smooth)
  alone = "o" if len(steps) == 1 else ""
  axes.plot(steps[thin], smooth[thin], color=_TRAIN, lw=1.9, ms=5, marker=alone, label=label)
  bad = steps[~np.isfinite(losses)]
  if len(bad):
    text = f"not finite: {len(bad)} logged steps, first {bad[0]:,}"
    for step in bad[:: -(-len(bad) // 200)]:
      axes.axvline(step, color=_BAD, lw=0.6, alpha=0.35, label=text, zorder=0)
      text = "_"  # only the first line enters the legend
  return [(steps, smooth, False), (steps, losses, False)]


def _draw_held_out(
  axes: Any, steps: np.ndarray, losses: np.ndarray, split: str, number: int
) -> None:
  axes.plot(
    steps,
    _finite(losses),
    color=_HELD_OUT[number % len(_HELD_OUT)],
    marker=_MARKERS[number % len(_MARKERS)],
    ms=5,
    mec="white",
    mew=0.7,
    lw=1.4,
    label=_labelled(split, losses),
    zorder=3,
  )


def _labelled(name: str, losses: np.ndarray) -> str:
  """The name with the first and the last loss."""
  known = losses[np.isfinite(losses)]
  if not len(known):
    return f"{name}: not finite"
  first, last = _words.loss(known[0]), _words.loss(known[-1])
  return f"{name}: {first} → {last}" if len(known) > 1 else f"{name}: {last}"


def _frame(axes: Any, shown: Sequence[tuple[np.ndarray, np.ndarray, bool]]) -> None:
  """Labels, ticks, limits, legend. The fall of the first steps may leave the frame at the top."""
  from matplotlib.ticker import FuncFormatter, MaxNLocator

  axes.set_xlabel("step", color=_INK)
  axes.set_ylabel("loss (nats/token)", color=_INK)
  axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
  axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
  axes.grid(color="#e6e8eb", lw=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(colors=_INK, length=0)
  for side in ("top", "right", "left", "bottom"):
    axes.spines[side].set_visible(side == "bottom")
    axes.spines[side].set_color("#b0b7bf")
  if not shown:
    axes.text(0.5, 0.5, "no loss was logged yet", transform=axes.transAxes, ha="center")
    axes.set(xticks=[], yticks=[])
    return
  _limits(axes, shown)
  axes.legend(loc="upper right", frameon=True, framealpha=0.9, edgecolor="none", labelcolor=_INK)


def _limits(axes: Any, shown: Sequence[tuple[np.ndarray, np.ndarray, bool]]) -> None:
  """Sets them so that the later 95 % of long training and all held-out losses fit."""
  first = min(steps[0] for steps, _, _ in shown)
  last = max(steps[-1] for steps, _, _ in shown)
  margin = 0.02 * (last - first) or 1
  axes.set_xlim(first - margin, last + margin)
  late = first + 0.05 * (last - first)
  kept = np.concatenate(
    [losses[(steps >= late) | whole | (len(steps) < _MANY)] for steps, losses, whole in shown]
  )
  kept = kept[np.isfinite(kept)]
  if len(kept):
    low, high = kept.min(), kept.max()
    margin = 0.06 * (high - low) or max(0.1 * abs(high), 0.1)
    axes.set_ylim(low - margin, high + margin)


def _token_axis(axes: Any, steps: np.ndarray, tokens: np.ndarray) -> None:
  """A second axis on top with the tokens seen, where they were logged."""
  from matplotlib.ticker import MaxNLocator

  known = np.isfinite(tokens)
  steps, tokens = steps[known], tokens[known]
  if len(steps) < 2 or not (np.diff(tokens) > 0).all():
    return
  ticks = MaxNLocator(6).tick_values(tokens[0], tokens[-1])
  ticks = ticks[(ticks >= tokens[0]) & (ticks <= tokens[-1])]
  top = axes.secondary_xaxis("top")
  top.set_xticks(np.interp(ticks, tokens, steps), [_round_count(tick) for tick in ticks])
  top.set_xlabel("tokens trained on", color=_INK)
  top.tick_params(colors=_INK, length=0)
  top.spines["top"].set_visible(False)


def _round_count(number: float) -> str:
  """A tick's number without the zeros that say nothing: 2.50M → 2.5M."""
  text = _words.count(number)
  letter = text[-1] if text[-1].isalpha() else ""
  digits = text[: len(text) - len(letter)]
  return (digits.rstrip("0").rstrip(".") if "." in digits else digits) + letter


def smoothed(values: np.ndarray) -> np.ndarray:
  """A centred moving average `[n]`, taken twice, over about 4 % of the values on both sides.

  It shrinks to nothing towards the beginning, where losses fall fast, and skips what is not finite.
  """
  width = len(values) // _MANY
  if not width:
    return _finite(np.asarray(values, np.float64))
  return _average(_average(np.asarray(values, np.float64), width), width)


def _average(values: np.ndarray, width: int) -> np.ndarray:
  n = len(values)
  known = np.isfinite(values)
  sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
  counts = np.concatenate([[0], np.cumsum(known)])
  at = np.arange(n)
  reach = np.minimum(at // 2, width)
  low, high = at - reach, np.minimum(at + reach, n - 1) + 1
  found = counts[high] - counts[low]
  return np.where(found > 0, (sums[high] - sums[low]) / np.maximum(found, 1), np.nan)


def _finite(values: np.ndarray) -> np.ndarray:
  """Infinities as NaN, where a line breaks."""
  return np.where(np.isfinite(values), values, np.nan)
