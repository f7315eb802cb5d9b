"""A fingerprint of how a task makes its examples: when it changes, cached tokens are made anew."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import os
import types
from collections.abc import Mapping
from typing import Any

DEPTH = 8  # of nested objects that are looked into
WHOLE = 64 * 2**20  # bytes; of larger files size and time of change must do


def fingerprint(*things: Any) -> str:
  """32 hexadecimal digits, the same in every process.

  Functions count by the text of the module that defines them and by what they hold; names of files
  by the files' contents; objects by their fields. What is none of these counts by its class.
  """
  digest = hashlib.blake2b(digest_size=16)
  for thing in things:
    digest.update(_told(thing, DEPTH).encode())
  return digest.hexdigest()


def _told(thing: Any, depth: int) -> str:
  """What of `thing` decides examples."""
  if depth == 0:
    return type(thing).__qualname__
  inner = functools.partial(_told, depth=depth - 1)
  if thing is None or isinstance(thing, bool | int | float | complex | bytes):
    return repr(thing)
  if isinstance(thing, str | os.PathLike):
    return _text(os.fspath(thing))
  if isinstance(thing, Mapping):
    return "{" + ",".join(sorted(f"{inner(k)}:{inner(v)}" for k, v in thing.items())) + "}"
  if isinstance(thing, set | frozenset):
    return "{" + ",".join(sorted(map(inner, thing))) + "}"
  if isinstance(thing, list | tuple):
    return "[" + ",".join(map(inner, thing)) + "]"
  if isinstance(thing, functools.partial):
    return f"partial({inner(thing.func)},{inner(thing.args)},{inner(thing.keywords)})"
  if isinstance(thing, types.MethodType):
    return f"{inner(thing.__self__)}.{thing.__name__}"
  if isinstance(thing, types.FunctionType):
    cells = [c.cell_contents for c in thing.__closure__ or () if _filled(c)]
    held = inner([cells, thing.__defaults__, thing.__kwdefaults__])
    # Wrapped by seqio.map_over_dataset and the like: what is wrapped is in the cells.
    return f"{thing.__module__}.{thing.__qualname__}@{_module(thing)}{held}"
  if isinstance(thing, type):
    return f"{thing.__module__}.{thing.__qualname__}"
  return f"{inner(type(thing))}@{_module(type(thing))}{inner(_fields(thing))}"


def _fields(thing: Any) -> dict[str, Any]:
  """What an object holds, without what it found out later: values that a call may fill in."""
  if dataclasses.is_dataclass(thing):
    return {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)}
  return {
    name: value
    for name, value in getattr(thing, "__dict__", {}).items()
    if callable(value) or isinstance(value, str | int | float | bytes | list | tuple | Mapping)
  }


def _text(text: str) -> str:
  """A string; where it names a file, also what is in that."""
  try:
    stat = os.stat(text)
  except (OSError, ValueError):
    return repr(text)
  if os.path.isdir(text):
    return repr(text)
  if stat.st_size > WHOLE:
    return f"file:{stat.st_size}:{stat.st_mtime_ns}"
  return f"file:{_content(text, stat.st_size, stat.st_mtime_ns)}"


@functools.lru_cache(maxsize=4096)
def _content(path: str, size: int, changed: int) -> str:
  """The digest of a file; size and time of change let the memory of it expire."""
  try:
    with open(path, "rb") as f:
      return hashlib.file_digest(f, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
  except OSError:
    return f"{size}:{changed}"


def _module(thing: Any) -> str:
  """The digest of the source file of a function or class, where it has one."""
  try:
    return _text(inspect.getsourcefile(thing) or "")
  except TypeError:
    return ""


def _filled(cell: types.CellType) -> bool:
  try:
    cell.cell_contents  # noqa: B018
  except ValueError:
    return False
  return True
