"""Reading lines of text so that whatever is wrong is told with its file and line."""

from __future__ import annotations

import gzip
import os
import pathlib
import sys
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from mtm.errors import UserError, nearest

StrPath = str | os.PathLike[str]


def lines(path: StrPath) -> Iterator[tuple[int, str]]:
  """Pairs of a line's number, from 1, and its text with the line end cut off.

  `-` is standard input; a name that ends in `.gz` is unpacked; a byte-order mark is dropped. Only
  `\\n` and `\\r\\n` end a line.

  Raises:
    UserError: the file is missing, unreadable, damaged or not UTF-8.
  """
  offset = 0
  with _opened(path) as file:
    try:
      for number, raw in enumerate(file, 1):
        if number == 1:
          raw = raw.removeprefix(b"\xef\xbb\xbf")
        yield number, _decoded(raw, f"{path}:{number}", offset).rstrip("\n").removesuffix("\r")
        offset += len(raw)
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
      raise UserError(f"{path}: damaged gzip file ({e}); make it again") from None


def whole(path: StrPath) -> str:
  """The text of a file, line ends as they are. Raises UserError as `lines` does."""
  with _opened(path) as file:
    try:
      return _decoded(file.read().removeprefix(b"\xef\xbb\xbf"), str(path), 0)
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
      raise UserError(f"{path}: damaged gzip file ({e}); make it again") from None


def _opened(path: StrPath) -> BinaryIO:
  if str(path) == "-":
    return sys.stdin.buffer
  file = pathlib.Path(path).expanduser()
  try:
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")  # type: ignore
  except FileNotFoundError:
    siblings = [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []
    where = "" if file.is_absolute() else f" in {pathlib.Path.cwd()}"
    raise UserError(f"{path}: no such file{where}{nearest(file.name, siblings)}") from None
  except OSError as e:
    raise UserError(f"{path}: cannot be read ({e.strerror})") from None


def _decoded(raw: bytes, where: str, offset: int) -> str:
  try:
    return raw.decode()
  except UnicodeDecodeError as e:
    raise UserError(
      f"{where}: byte {offset + e.start} of the file is 0x{raw[e.start]:02x}, which is not UTF-8; "
      "convert the file, for example with iconv"
    ) from None
