"""What T5X writes through orbax: `state/` with a msgpack index and zarr directories.

The index names the directory of an array that is not in it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtm.errors import UserError
from mtm.interop._arrays import INDEX, leaves_of, read_index, write_index
from mtm.interop._base import Export, Foreign
from mtm.interop.t5x import Indexed, opened, written

STATE = "state"
ELSEWHERE = "PLACEHOLDER://"  # an array in a directory of this name


@dataclasses.dataclass(frozen=True)
class T5XOrbax:
  """See `mtm.interop._base.Format`."""

  name: str = "t5x_orbax"
  optimizer: bool = True

  def found(self, path: Path) -> bool:
    """See `Format.found`."""
    return (path / STATE / INDEX).is_file()

  def open(self, path: Path) -> Foreign:
    """See `Format.open`."""
    folder = path / STATE
    index = read_index(folder)
    if not isinstance(index, Mapping) or "target" not in index:
      raise UserError(f"{folder / INDEX} is no index of T5X's: it holds no target")
    leaves = {name: _spec(folder, leaf) for name, leaf in leaves_of(index).items()}
    return opened(Indexed(folder, leaves))

  def write(self, path: Path, export: Export) -> int:
    """See `Format.write`: without the optimizer's state at step 0."""
    folder = path / STATE
    index, count = written(folder, export, lambda name, spec: f"{ELSEWHERE}{name}")
    write_index(folder, index)
    return count


def _spec(folder: Path, leaf: Any) -> Any:
  """An array of the index, or the tensorstore spec of the directory that it names."""
  if not isinstance(leaf, str) or not leaf.startswith(ELSEWHERE):
    return leaf
  name = leaf.removeprefix(ELSEWHERE)
  try:
    told = json.loads((folder / name / ".zarray").read_text())
  except (OSError, ValueError) as error:
    raise UserError(f"{folder / name} is missing or damaged: copy it again") from error
  store = {"driver": "file", "path": name}
  return {"driver": "zarr", "kvstore": store, "metadata": {"shape": told["shape"]}}


FORMAT = T5XOrbax()
