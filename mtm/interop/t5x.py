"""T5X's native checkpoints, version 3: a msgpack index, and a zarr directory for each large array.

A leaf of the index is an array, or says where its directory lies. The parameters of its T5s are
read and written, those of `scalable_t5` with scanned layers, and its decoder's; T5X keeps no
architecture, so sizes come from shapes, a gated layer is taken for T5 1.1's GELU and another for
T5 1.0's ReLU. The state of its Adafactor goes with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtm.errors import UserError
from mtm.families._names import Row
from mtm.interop import _decoder_only, _scanned, _slots, _unscanned, tree
from mtm.interop._arrays import (
  INDEX,
  SMALL,
  leaves_of,
  read_index,
  read_zarr,
  write_index,
  write_zarr,
)
from mtm.interop._base import Export, Foreign, Moments

VERSION = 3
LAYOUTS: tuple[Any, ...] = (_scanned, _decoder_only, _unscanned)  # the last takes what is left


@dataclasses.dataclass(frozen=True)
class T5X:
  """See `mtm.interop._base.Format`."""

  name: str = "t5x"
  optimizer: bool = True

  def found(self, path: Path) -> bool:
    """See `Format.found`."""
    return (path / INDEX).is_file()

  def open(self, path: Path) -> Foreign:
    """See `Format.open`."""
    index = read_index(path)
    if not isinstance(index, Mapping) or not {"version", "optimizer"} <= index.keys():
      raise UserError(f"{path / INDEX} is no index of T5X's: it holds no version and optimizer")
    if index["version"] != VERSION:
      raise UserError(
        f"{path} is a T5X checkpoint of version {index['version']}; mtm reads {VERSION}"
      )
    return opened(Indexed(path, leaves_of(index["optimizer"])))

  def write(self, path: Path, export: Export) -> int:
    """See `Format.write`: without the optimizer's state at step 0."""
    optimizer, count = written(path, export)
    write_index(path, {"version": VERSION, "optimizer": optimizer})
    return count


def written(
  path: Path, export: Export, told: Callable[[str, Any], Any] = lambda name, spec: spec
) -> tuple[dict[str, Any], int]:
  """Writes what is large into the directory `path`.

  Args:
    path: made where it does not exist.
    export: what to write.
    told: what the index has for an array that lies in the directory `name`, of its spec.

  Returns:
    the index, `{"state": ..., "target": ...}`, and how many values the parameters have.

  Raises:
    UserError: the format cannot hold the model, or the disk the arrays.
  """
  kinds = {kind.BUILD: kind for kind in LAYOUTS}
  if export.build not in kinds:
    *names, last = sorted(build.__name__ for build in kinds)
    raise UserError(
      f"T5X's format is written for {', '.join(names)} and {last}, and this is a"
      f" {export.build.__name__}"
    )
  kind = kinds[export.build]
  table: list[Row] = kind.rows(export.arguments)
  path.mkdir(parents=True, exist_ok=True)
  moments, count = export.moments, 0
  index: dict[str, Any] = {"state": {"param_states": {}}, "target": {}}

  def leaf(name: str, values: np.ndarray) -> None:
    dotted = name.replace("/", ".")
    large = values.size >= SMALL
    tree.put(index, name, told(dotted, write_zarr(path, dotted, values)) if large else values)

  for name, values in tree.write(export.params, table):
    leaf(name, values)
    count += values.size
  leaf("state/step", np.asarray(moments.step if moments else 0, np.int32))
  if moments is not None:
    for name, values in kind.slots(moments, table, export.params):
      leaf(name, values)
  return index, count


class Indexed:
  """The arrays of a directory with an index, `target/...` and `state/...`; see `tree.Source`.

  Attributes:
    directory: where the index and the arrays lie.
    leaves: path → array or tensorstore spec.
  """

  def __init__(self, directory: Path, leaves: Mapping[str, Any]) -> None:
    self.directory, self.where, self._leaves = directory, str(directory), dict(leaves)

  @property
  def step(self) -> int:
    """How many steps were taken."""
    return int(self._leaves["state/step"])

  def names(self) -> set[str]:
    """See `Source.names`."""
    return set(self._leaves)

  def get(self, name: str) -> np.ndarray:
    """See `Source.get`."""
    leaf = self._leaves[name]
    if not isinstance(leaf, Mapping):
      return np.asarray(leaf)
    return read_zarr(self.directory, leaf, whole=name.startswith("target/"))

  def parameters(self) -> list[str]:
    """The names of parameters."""
    return sorted(name for name in self._leaves if name.startswith("target/"))

  def slot(self, name: str, kind: str) -> np.ndarray:
    """What an Adafactor keeps of a parameter, `v_row`, `v_col` or `v`; one value where it does not.

    Raises:
      UserError: an array of the state is missing or damaged.
    """
    if refused := self.refused(name):
      raise UserError(f"{self.where}: {refused}")
    return self.get(f"{_slots.of(name)}/{kind}")

  def refused(self, name: str) -> str:
    """Why the state of a parameter is not that of an Adafactor without momentum, a clause."""
    full = _slots.of(name)
    for kind in _slots.KINDS:
      if f"{full}/{kind}" not in self._leaves:
        return f"it has no {full}/{kind} and so no state of T5X's Adafactor"
    momentum = np.prod(self.shape(f"{full}/m")) > 1
    return "it was trained with momentum, which cannot be taken over" if momentum else ""

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of an array, without reading it."""
    leaf = self._leaves[name]
    return tuple(leaf["metadata"]["shape"]) if isinstance(leaf, Mapping) else np.shape(leaf)


def opened(source: Indexed) -> Foreign:
  """The checkpoint of a T5 whose arrays are these."""
  names = source.names()
  trained = any(name.startswith("state/param_states/") for name in names)
  kind = next(one for one in LAYOUTS if one.found(names))
  arguments = kind.arguments_of(source)
  table = kind.rows(arguments)
  return Foreign(
    source.where, kind.BUILD, arguments, source, table, (r"state/.*",), begin_id=0, eos_id=1,
    prefix=kind is _decoder_only,  # T5X trains it as a prefix LM
    moments=(lambda: _moments(source, kind, table)) if trained else None,
  )  # fmt: skip


def _moments(source: Indexed, kind: Any, table: list[Row]) -> Moments:
  """The state of T5X's Adafactor, see `Moments.refused` for another's."""
  refused = next(filter(None, (source.refused(name) for name in source.parameters())), "")
  return Moments(source.step, kind.moments(source, table), refused)


FORMAT = T5X()
