"""Files that mtm can make again, and files that other processes see whole or not at all."""

from __future__ import annotations

import os
import pathlib
import tempfile

from mtm.errors import UserError


def cache_directory() -> pathlib.Path:
  """What can be made again lies in $MTM_CACHE, else $XDG_CACHE_HOME/mtm, else ~/.cache/mtm."""
  if os.environ.get("MTM_CACHE"):
    return pathlib.Path(os.environ["MTM_CACHE"]).expanduser()
  base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return pathlib.Path(base).expanduser() / "mtm"


def write_atomically(path: pathlib.Path, data: bytes) -> None:
  """Writes a file that other processes see whole or not at all.

  Raises:
    UserError: the disk is full or the folder cannot be written.
  """
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as f:
      try:
        f.write(data)
        f.close()
        os.chmod(f.name, 0o644)
        os.replace(f.name, path)
      except BaseException:
        os.unlink(f.name)
        raise
  except OSError as e:
    raise UserError(f"cannot write {path}: {e.strerror}; free or choose another place") from e
