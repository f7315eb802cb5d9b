"""How T5X keeps arrays: a msgpack index, and a zarr directory beside it for each large one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mtm.errors import UserError

INDEX = "checkpoint"
SMALL = 1024  # arrays with fewer values stand in the index
_ARRAY, _SCALAR = 1, 3  # flax's msgpack extension types


def read_index(path: Path) -> Any:
  """What the msgpack file of a checkpoint holds. Raises UserError where it is damaged."""
  import msgpack

  try:
    return msgpack.unpackb((path / INDEX).read_bytes(), ext_hook=_unpack)
  except (ValueError, TypeError, OSError, msgpack.UnpackException) as error:
    reason = " ".join(str(error).split()) or type(error).__name__
    raise UserError(f"{path / INDEX} is damaged or not T5X's ({reason}): copy it again") from error


def write_index(path: Path, index: Any) -> None:
  """Writes it into the directory `path`."""
  import msgpack

  (path / INDEX).write_bytes(msgpack.packb(index, default=_pack, strict_types=True))


def leaves_of(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Path → array or tensorstore spec."""
  found: dict[str, Any] = {}
  for name, value in node.items():
    if isinstance(value, Mapping) and "driver" not in value:
      found |= leaves_of(value, f"{prefix}{name}/")
    else:
      found[f"{prefix}{name}"] = value
  return found


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


def write_zarr(directory: Path, name: str, values: np.ndarray) -> dict[str, Any]:
  """Writes an array into the directory `name` beside the index, and returns the index's spec.

  Raises:
    UserError: it cannot be written.
  """
  import tensorstore

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
