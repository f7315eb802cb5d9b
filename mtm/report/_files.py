"""Files that are either the old or the new whole, never half of one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mtm.errors import UserError


def write(path: str | os.PathLike[str], data: bytes) -> Path:
  """Writes `data` to `path` atomically, making its directory if need be; returns the path.

  Raises:
    UserError: it cannot be written, for example because the disk is full; the old file stays.
  """
  path = Path(path)
  swap = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      swap.write_bytes(data)
      os.replace(swap, path)
    except OSError:
      with contextlib.suppress(OSError):
        swap.unlink()
      raise
  except OSError as error:
    raise UserError(
      f"cannot write {path}: {error.strerror or error}; free some space or choose another MODEL_DIR"
    ) from error
  return path
