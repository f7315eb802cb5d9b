"""The models that tests/parity/record.py wrote down, as directories of HuggingFace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mtm.interop import hf
from mtm.interop.safetensors import ONE

FIXTURES = Path(__file__).parents[1] / "fixtures" / "published"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.npz"))


def arrays(name: str) -> dict[str, Any]:
  """All that was written down of a model."""
  with np.load(FIXTURES / f"{name}.npz") as file:
    return dict(file)


def directory(name: str, folder: Path) -> Path:
  """The original, as it was saved."""
  found = arrays(name)
  folder.mkdir(parents=True)
  (folder / hf.CONFIG).write_text(str(found["config"]))
  tensors = {k.removeprefix("tensor/"): x for k, x in found.items() if k.startswith("tensor/")}
  save_file(tensors, folder / ONE)
  return folder


def batch(name: str) -> dict[str, np.ndarray]:
  """What the original was fed, as our model reads it."""
  found = arrays(name)
  return {k.removeprefix("batch/"): x for k, x in found.items() if k.startswith("batch/")}


def states(name: str) -> dict[str, list[np.ndarray]]:
  """The original's hidden states, side → `[rows, length, embed]` each; see `tests.families.states`.
  Empty where it tells others."""
  found: dict[str, dict[int, np.ndarray]] = {}
  for key, values in arrays(name).items():
    kind, _, rest = key.partition("/")
    if kind == "states":
      side, number = rest.split("/")
      found.setdefault(side, {})[int(number)] = values
  return {side: [every[i] for i in sorted(every)] for side, every in found.items()}
