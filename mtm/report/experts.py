"""How experts share the work, as a picture: layer × expert over time."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtm.report import _files

LOAD = "/load"
FIGURES = {
  "load_entropy": "load entropy (1: even)",
  "dropped": "share dropped",
  "dead": "share of experts dead",
}
_INK = "#30363d"
_PANELS = 24  # layers drawn; of a deeper model, evenly chosen ones
_COLUMNS = 4
_ROWS = 256  # experts drawn apart; of more, neighbours are averaged
_STEPS = 400  # columns of a picture; of more steps, neighbours are averaged
_MOST = 3.0  # times the even share, where the scale ends

Layer = tuple[str, int]  # the block's name, and which repetition of it


def load_map(
  rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str], split: str = "train"
) -> Path | None:
  """Draws the load of every expert of every layer over steps, and figures of each layer below.

  Args:
    rows: the objects of `metrics.jsonl`; those of `split` with a `.../load` of `[layers, experts]`
      count.
    path: a PNG, written atomically; its directory is made.
    split: whose metrics.

  Returns:
    the path, or None where no row tells of experts.

  Raises:
    UserError: the file cannot be written.
  """
  kept = [row for row in rows if row.get("split") == split]
  every = loads(kept)
  if not every:
    return None
  from matplotlib.figure import Figure  # half a second, which a check of gin files need not pay

  names = sorted(every)
  shown = [names[i] for i in np.linspace(0, len(names) - 1, min(len(names), _PANELS)).astype(int)]
  columns = min(_COLUMNS, len(shown))
  lines = -(-len(shown) // columns)
  width, height = 2.6 + 2.4 * columns, 1.9 * lines
  figure = Figure(figsize=(max(width, 8), height + 3.2), dpi=130, layout="constrained")
  halves: Any = figure.subfigures(2, 1, height_ratios=(height + 0.6, 2.6))
  top, bottom = halves
  panels = np.atleast_1d(top.subplots(lines, columns, squeeze=False)).reshape(-1)
  for panel in panels[len(shown) :]:
    panel.set_visible(False)
  for panel, name in zip(panels, shown, strict=False):
    image = _draw(panel, name, *every[name])
  bar = top.colorbar(image, ax=list(panels[: len(shown)]), shrink=0.8, pad=0.01)
  bar.set_label("load, as a multiple of the even share", color=_INK)
  _draw_figures(bottom, kept)
  figure.suptitle("Experts: who gets how much of the work", color=_INK, weight="bold", size=13)
  file = io.BytesIO()
  figure.savefig(file, format="png")
  return _files.write(path, file.getvalue())


def loads(rows: Iterable[Mapping[str, Any]]) -> dict[Layer, tuple[np.ndarray, np.ndarray]]:
  """For each layer its steps `[n]`, and the load of each expert over the even share `[n, experts]`.

  Of two rows for one step the later one counts.
  """
  found: dict[Layer, dict[int, np.ndarray]] = {}
  for row in rows:
    for name, value in row.items():
      if not name.endswith(LOAD):
        continue
      for repetition, load in enumerate(np.asarray(value, np.float64).reshape(-1, _experts(value))):
        layer = name.removesuffix(LOAD).removesuffix("/channel"), repetition
        found.setdefault(layer, {})[int(row["step"])] = load * len(load)
  return {
    layer: (np.array(sorted(by_step)), np.stack([by_step[step] for step in sorted(by_step)]))
    for layer, by_step in found.items()
  }


def _experts(value: Any) -> int:
  return np.shape(value)[-1]


def _draw(panel: Any, name: Layer, steps: np.ndarray, load: np.ndarray) -> Any:
  """One layer: steps to the right, experts upwards."""
  from matplotlib.ticker import MaxNLocator

  drawn = _fewer(_fewer(load, _STEPS, 0), _ROWS, 1)
  image = panel.imshow(
    drawn.T,
    aspect="auto",
    origin="lower",
    interpolation="nearest",
    cmap="magma",
    vmin=0.0,
    vmax=_MOST,
    extent=(steps[0] - 0.5, steps[-1] + 0.5, -0.5, load.shape[1] - 0.5),
  )
  panel.set_title(f"{name[0]}, repetition {name[1]}", size=8, color=_INK)
  panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
  panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))
  panel.tick_params(colors=_INK, length=2, labelsize=7)
  panel.set_xlabel("step", size=7, color=_INK)
  panel.set_ylabel("expert", size=7, color=_INK)
  return image


def _fewer(values: np.ndarray, most: int, axis: int) -> np.ndarray:
  """Neighbours along `axis` averaged, so that at most so many are left."""
  size = values.shape[axis]
  if size <= most:
    return values
  parts = np.array_split(np.arange(size), most)
  return np.stack([values.take(part, axis).mean(axis) for part in parts], axis)


def _draw_figures(figure: Any, rows: Sequence[Mapping[str, Any]]) -> None:
  """Each figure of all layers over steps."""
  from matplotlib.ticker import MaxNLocator

  panels = figure.subplots(1, len(FIGURES))
  for panel, (name, label) in zip(panels, FIGURES.items(), strict=True):
    curves: dict[Layer, dict[int, float]] = {}
    for row in rows:
      for key, value in row.items():
        if key.endswith(f"/{name}"):
          place = key.removesuffix(f"/{name}").removesuffix("/channel")
          for repetition, one in enumerate(np.atleast_1d(np.asarray(value, np.float64))):
            curves.setdefault((place, repetition), {})[int(row["step"])] = float(one)
    for layer in sorted(curves):
      steps = sorted(curves[layer])
      panel.plot(steps, [curves[layer][step] for step in steps], lw=1.0, alpha=0.8)
    panel.set_title(label, size=9, color=_INK)
    panel.set_ylim(-0.03, 1.03)
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    panel.tick_params(colors=_INK, length=2, labelsize=7)
    panel.set_xlabel("step", size=7, color=_INK)
    panel.grid(color="#e6e8eb", lw=0.6)
