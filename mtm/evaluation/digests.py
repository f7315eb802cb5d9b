"""Digests that say whether two results are about the same things, and what was asked already."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtm.errors import UserError
from mtm.types import Params


def digest(told: Any) -> str:
  """16 hexadecimal digits of anything JSON-able."""
  text = json.dumps(told, sort_keys=True, ensure_ascii=False, default=str)
  return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def of_params(params: Params) -> str:
  """16 hexadecimal digits of all parameters by name and value, wherever they lie."""
  found = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
    if not getattr(leaf, "is_fully_addressable", True):
      from jax.experimental import multihost_utils

      leaf = multihost_utils.process_allgather(leaf, tiled=True)
    values = np.ascontiguousarray(leaf)
    found.update(f"{jax.tree_util.keystr(path)} {values.shape} {values.dtype}".encode())
    found.update(values.tobytes())
  return found.hexdigest()[:16]


class Kept:
  """Rows that are kept in a file, one JSON object a line, found again by their `id`.

  A line that was cut off by an interruption is dropped.
  """

  def __init__(self, path: Path) -> None:
    """Opens or makes the file. Raises UserError where it cannot be written."""
    self.path = path
    self._rows: dict[str, Mapping[str, Any]] = {}
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      data = path.read_bytes() if path.exists() else b""
      whole = data[: data.rfind(b"\n") + 1]
      if len(whole) < len(data):
        os.truncate(path, len(whole))
    except OSError as error:
      raise _unwritable(path, error) from error
    for line in whole.splitlines():
      row = json.loads(line)
      self._rows[row["id"]] = row

  def get(self, id: str) -> Mapping[str, Any] | None:
    """The row of this id, or None."""
    return self._rows.get(id)

  def add(self, rows: list[dict[str, Any]]) -> None:
    """Appends rows, whole; of several hosts the first writes."""
    self._rows |= {row["id"]: row for row in rows}
    if jax.process_index():
      return
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
      with open(self.path, "ab") as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
      raise _unwritable(self.path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
  why = error.strerror or error
  return UserError(f"cannot write {path}: {why}; choose another directory, or free some space")
