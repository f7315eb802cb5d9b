"""T5X's native checkpoints, version 3: a msgpack index, and a zarr directory for each large array.

A leaf of the index is an array, or says where its directory lies. The parameters of its T5s are
read and written, those of `scalable_t5` with scanned layers; T5X keeps no architecture, so sizes
come from shapes, a gated layer is taken for T5 1.1's GELU and another for T5 1.0's ReLU.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mtm.errors import UserError
from mtm.families._names import Row
from mtm.families.t5 import t5
from mtm.families.umt5 import umt5
from mtm.interop import _scanned, _unscanned, tree
from mtm.interop._base import Export, Foreign, Moments

INDEX = "checkpoint"
VERSION = 3
SMALL = 1024  # arrays with fewer values stand in the index
_ARRAY, _SCALAR = 1, 3  # flax's msgpack extension types


@dataclasses.dataclass(frozen=True)
class T5X:
  """See `mtm.interop._base.Format`."""

  name: str = "t5x"

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
    """See `Format.write`: the parameters, at step 0 and without an optimizer's state."""
    tables: dict[Any, Callable[[Mapping[str, Any]], list[Row]]]
    tables = {t5: _unscanned.rows, umt5: _scanned.rows}
    if export.build not in tables:
      raise UserError(
        f"T5X's format is written for t5 and umt5, and this is a {export.build.__name__}"
      )
    import msgpack

    path.mkdir(parents=True, exist_ok=True)
    target: dict[str, Any] = {}
    count = 0
    for name, values in tree.write(export.params, tables[export.build](export.arguments)):
      *parents, last = name.split("/")[1:]
      node = target
      for parent in parents:
        node = node.setdefault(parent, {})
      node[last] = _leaf(path, name.replace("/", "."), values)
      count += values.size
    state = {"step": np.zeros((), np.int32), "param_states": {}}
    index = {"version": VERSION, "optimizer": {"state": state, "target": target}}
    (path / INDEX).write_bytes(msgpack.packb(index, default=_pack, strict_types=True))
    return count


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

  def slot(self, name: str, kind: str) -> np.ndarray:
    """What an Adafactor keeps of a parameter, `v_row`, `v_col` or `v`; one value where it does not.

    Raises:
      UserError: the state is another optimizer's, or has momentum.
    """
    full = name.replace("target", "state/param_states", 1)
    for needed in ("m", kind):
      if f"{full}/{needed}" not in self._leaves:
        raise UserError(
          f"{self.where} has no {full}/{needed}: it holds no state of T5X's Adafactor"
        )
    if np.prod(self.shape(f"{full}/m")) > 1:
      raise UserError(f"{self.where} was trained with momentum, which cannot be taken over")
    return self.get(f"{full}/{kind}")

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of an array, without reading it."""
    leaf = self._leaves[name]
    return tuple(leaf["metadata"]["shape"]) if isinstance(leaf, Mapping) else np.shape(leaf)


def opened(source: Indexed) -> Foreign:
  """The checkpoint of a T5 whose arrays are these."""
  trained = any(name.startswith("state/param_states/") for name in source.names())
  scanned = _scanned.found(source.names())
  build, kind = (umt5, _scanned) if scanned else (t5, _unscanned)
  arguments = kind.arguments_of(source)
  table = kind.rows(arguments)

  def told() -> Moments:
    plain = moments(source, table)
    return _scanned.moments(source, table, plain.of) if scanned else plain

  return Foreign(
    source.where, build, arguments, source, table, (r"state/.*",), begin_id=0, eos_id=1,
    moments=told if trained else None,
  )  # fmt: skip


def moments(source: Indexed, table: list[Row]) -> Moments:
  """The state of T5X's Adafactor.

  Whatever its rules say of the axes' names, matrices are factored by size: `v_row` lies along the
  smaller side, or along the rows where both are equal, and `v_col` along the other.

  Raises:
    UserError: the checkpoint holds another optimizer's state, or momentum.
  """
  row_of = {path: one for one in table for path in one.ours}

  def of(path: str) -> tuple[np.ndarray, ...]:
    one = row_of[path]
    names = [one.theirs[0]]
    if one.layered:
      numbered = (one.names(n)[0] for n in itertools.count())
      names = list(itertools.takewhile(source.names().__contains__, numbered))
    factored = source.slot(names[0], "v").size == 1 < source.slot(names[0], "v_row").size
    kinds = ("v_row", "v_col") if factored else ("v",)
    if factored and source.shape(names[0])[0] > source.shape(names[0])[1]:
      kinds = kinds[::-1]  # the rows' side is the larger
    found = ([source.slot(name, kind) for name in names] for kind in kinds)
    return tuple(np.stack(parts) if one.layered else parts[0] for parts in found)

  return Moments(source.step, of)


def read_index(path: Path) -> Any:
  """What the msgpack file of a checkpoint holds. Raises UserError where it is damaged."""
  import msgpack

  try:
    return msgpack.unpackb((path / INDEX).read_bytes(), ext_hook=_unpack)
  except (ValueError, TypeError, OSError, msgpack.UnpackException) as error:
    reason = " ".join(str(error).split()) or type(error).__name__
    raise UserError(f"{path / INDEX} is damaged or not T5X's ({reason}): copy it again") from error


def read_zarr(directory: Path, spec: Mapping[str, Any], whole: bool) -> np.ndarray:
  """The array of a zarr directory that the index names.

  Args:
    directory: where the index lies.
    spec: the index's.
    whole: whether a chunk that is not there is an error. T5X writes none for zeros, of which an
      optimizer's state may consist and a parameter does not.

  Raises:
    UserError: it is missing or damaged.
  """
  import tensorstore

  where = directory / spec["kvstore"]["path"]
  store = {"driver": "file", "path": str(where)}
  told = {"driver": spec["driver"], "kvstore": store, "fill_missing_data_reads": not whole}
  try:
    opened = tensorstore.open(told).result()
    return opened.read().result()
  except ValueError as error:
    reason = " ".join(str(error).split())[:160]
    raise UserError(f"{where} is missing or damaged ({reason}): copy it again") from error


def _leaf(directory: Path, name: str, values: np.ndarray) -> Any:
  """What the index holds for an array, which is written beside it unless it is small."""
  import tensorstore

  if values.size < SMALL:
    return values
  spec = {
    "driver": "zarr",
    "dtype": values.dtype.name,
    "kvstore": {"driver": "file", "path": f"{name}/"},
    "metadata": {
      "chunks": list(values.shape), "compressor": {"id": "gzip", "level": 1},
      "shape": list(values.shape),
    },
  }  # fmt: skip
  store = {"driver": "file", "path": str(directory / name)}
  told = {**spec, "kvstore": store, "store_data_equal_to_fill_value": True}
  made = tensorstore.open(told, create=True, delete_existing=True)
  try:
    written = made.result().write(values)
    try:
      written.result()
    finally:  # an interruption lets it end first, so that what it writes can be removed
      written.result()
  except ValueError as error:
    reason = " ".join(str(error).split())
    full = "No space left" in reason
    raise UserError(
      f"cannot write {directory}: {'the disk is full' if full else reason[:160]}"
    ) from error
  return spec


def leaves_of(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Path → array or tensorstore spec."""
  found: dict[str, Any] = {}
  for name, value in node.items():
    if isinstance(value, Mapping) and "driver" not in value:
      found |= leaves_of(value, f"{prefix}{name}/")
    else:
      found[f"{prefix}{name}"] = value
  return found


def _unpack(kind: int, data: bytes) -> Any:
  """flax's arrays and scalars: shape, dtype and bytes, packed once more."""
  import msgpack

  if kind not in (_ARRAY, _SCALAR):
    raise ValueError(f"unknown msgpack extension {kind}")
  shape, name, raw = msgpack.unpackb(data, raw=False)
  name = name.decode() if isinstance(name, bytes) else name
  dtype = getattr(ml_dtypes, name, None) or np.dtype(name)
  return np.frombuffer(raw, dtype).reshape(shape)


def _pack(value: Any) -> Any:
  import msgpack

  array = np.ascontiguousarray(value)
  return msgpack.ExtType(
    _ARRAY, msgpack.packb((list(np.shape(value)), array.dtype.name, array.tobytes()))
  )


FORMAT = T5X()
