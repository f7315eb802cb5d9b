"""Where the rows of an inference go: JSON objects, one a line, in the order of the examples."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtm.errors import UserError

Row = dict[str, Any]


class Rows:
  """Appends rows to `<directory>/rows-<shard>-of-<shards>.jsonl`; knows how many are there already.

  Beside it lies `request.json`: what was asked. Another request in the same directory is refused.
  """

  def __init__(self, directory: str | Path, request: Mapping[str, Any], shard: tuple[int, int]):
    """Opens or makes the file.

    Args:
      directory: where.
      request: what decides the rows, JSON-able.
      shard: this shard's number and how many there are.

    Raises:
      UserError: the directory holds rows of another request, or cannot be written.
    """
    self.directory = Path(directory)
    self.path = self.directory / f"rows-{shard[0]:05d}-of-{shard[1]:05d}.jsonl"
    try:
      self.directory.mkdir(parents=True, exist_ok=True)
      self._agree(json.loads(json.dumps(dict(request))))
      self._file = open(self.path, "a+b")  # noqa: SIM115 (closed by `close`)
      self._drop_half_line()
    except OSError as error:
      raise UserError(
        f"cannot write {self.path}: {error.strerror or error}; choose another directory"
      ) from error

  def write(self, row: Row) -> None:
    """Appends one row, whole."""
    try:
      self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
      self._file.flush()
    except OSError as error:
      raise UserError(
        f"cannot write {self.path}: {error.strerror or error}; free some space and run the same"
        " command again: it goes on after the last whole line"
      ) from error

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _agree(self, request: Mapping[str, Any]) -> None:
    path = self.directory / "request.json"
    if not path.exists():
      path.write_text(json.dumps(request, indent=2) + "\n")
      return
    before = json.loads(path.read_text())
    changed = sorted(k for k in {*before, *request} if before.get(k) != request.get(k))
    if changed:
      name = changed[0]
      raise UserError(
        f"{self.directory} holds rows of another request ({name} was {before.get(name)!r} and is"
        f" {request.get(name)!r}): choose another directory, or remove that one"
      )

  def _drop_half_line(self) -> None:
    data = self.path.read_bytes()
    os.truncate(self.path, data.rfind(b"\n") + 1)
    self.done = data.count(b"\n")


class Printed:
  """Rows on standard output; nothing is there already."""

  done = 0

  def write(self, row: Row) -> None:
    """Prints one row."""
    print(json.dumps(row, ensure_ascii=False), flush=True)

  def close(self) -> None:
    """Flushes."""
    sys.stdout.flush()
