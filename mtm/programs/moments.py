"""The state of an Adafactor beside a checkpoint of ours: what training left, or a conversion kept.

A conversion has no optimizer to say what tree its state would be; it keeps second moments as files,
`moments/<path of a parameter>.<number>.npy`, which any Adafactor of ours can begin from.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np

from mtm.interop import Moments, tree
from mtm.training import checkpoint
from mtm.training.optimizers._base import matrix_axes

FOLDER = "moments"  # below the model's directory
STEP = "step.json"
_LEAF = re.compile(r"opt_state\.\d+\.(?P<path>.+)\.\d+\.(?P<field>v_row|v_col|v)")
_ANOTHER = "it was trained with another optimizer than Adafactor"
_MOMENTUM = "it was trained with momentum, which cannot be taken over"


def keep(moments: Moments, paths: list[str], home: Path) -> None:
  """Writes the state of these parameters into a model's directory, an array at a time."""
  folder = home / FOLDER
  folder.mkdir()
  (folder / STEP).write_text(json.dumps(moments.step) + "\n")
  for path in paths:
    for number, values in enumerate(moments.of(path)):
      np.save(folder / f"{path.replace('/', '.')}.{number}.npy", values)


def beside(step: Path) -> Moments | None:
  """The state that goes with a checkpoint of ours, `<home>/checkpoints/<step>`, or None."""
  if checkpoint.has_training_state(step):
    return _trained(step)
  folder = step.parent.parent / FOLDER
  if not folder.is_dir():
    return None

  def of(path: str) -> tuple[np.ndarray, ...]:
    names = (folder / f"{path.replace('/', '.')}.{number}.npy" for number in (0, 1))
    return tuple(np.load(name) for name in names if name.exists())

  return Moments(json.loads((folder / STEP).read_text()), of)


def _trained(step: Path) -> Moments:
  """What the item `training` says."""
  shapes = {n: tuple(x.shape) for n, x in tree.flatten(checkpoint.shapes(step)).items()}
  stored = checkpoint.training_state(step)
  fields: dict[str, dict[str, str]] = {}
  for name in stored:
    if told := _LEAF.fullmatch(name):
      path = told["path"].replace(".", "/")
      fields.setdefault(path, {})[told["field"]] = name
  taken = int(stored["step"][()])
  if any(".ema." in f"{name}." for name in stored):
    return Moments(taken, _none, _MOMENTUM)
  if fields.keys() != shapes.keys() or any(len(told) < 3 for told in fields.values()):
    return Moments(taken, _none, _ANOTHER)

  def of(path: str) -> tuple[np.ndarray, ...]:
    row, column, whole = (stored[fields[path][kind]] for kind in ("v_row", "v_col", "v"))
    if row.shape[-1] == 1 == column.shape[-1]:
      return (whole[...],)
    rows = _rows(path, shapes[path][len(row.shape) - 1 :])
    found = row[...], column[...]  # optax has the smaller side first
    return found if row.shape[-1] == rows else found[::-1]

  return Moments(taken, of)


def _rows(path: str, shape: tuple[int, ...]) -> int:
  """How many rows a layer's parameter has as a matrix."""
  axes = matrix_axes(path, len(shape))
  return math.prod(shape[axis] for axis in axes[0]) if axes else shape[0]


def _none(path: str) -> tuple[np.ndarray, ...]:
  raise AssertionError(f"{path} of a state that is refused")
