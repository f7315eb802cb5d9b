"""A fingerprint of how a task makes its examples: when it changes, cached tokens are made anew."""

from __future__ import annotations

import dataclasses
import functools
import glob
import hashlib
import inspect
import os
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

WHOLE = 64 * 2**20  # bytes; of larger files size and time of change must do
PLAIN = bool | int | float | complex | bytes | None


@dataclasses.dataclass(frozen=True)
class Seen:
  """The files that a fingerprint looked into.

  Attributes:
    files: path → size and time of change, or None where there is none.
    patterns: a pattern of files → the files' names.
  """

  files: dict[str, list[int] | None] = dataclasses.field(default_factory=dict)
  patterns: dict[str, list[str]] = dataclasses.field(default_factory=dict)

  def unchanged(self) -> bool:
    """Whether all of them are as they were."""
    return all(stamp(path) == told for path, told in self.files.items()) and all(
      sorted(glob.glob(pattern)) == names for pattern, names in self.patterns.items()
    )


def stamp(path: str) -> list[int] | None:
  """Size and time of change of a file; None where there is none."""
  try:
    stat = os.stat(path)
  except (OSError, ValueError):
    return None
  return None if os.path.isdir(path) else [stat.st_size, stat.st_mtime_ns]


def fingerprint(*things: Any, seen: Seen | None = None) -> str:
  """32 hexadecimal digits, the same in every process.

  Functions count by the text of the module that defines them and by what they hold; names and
  patterns of files by the files' contents; objects by their fields. What is none of these counts by
  its class.

  Args:
    things: what is told.
    seen: is told the files that were looked into.
  """
  teller = _Teller(seen or Seen())
  digest = hashlib.blake2b(digest_size=16)
  for thing in things:
    digest.update(teller.told(thing).encode())
  return digest.hexdigest()


class _Teller:
  """Tells what of a thing decides examples, each thing once."""

  def __init__(self, seen: Seen) -> None:
    self._seen = seen
    self._known: dict[int, tuple[Any, str]] = {}  # by id; holds the thing, so that ids stay taken

  def told(self, thing: Any) -> str:
    """A text that equal things share."""
    if isinstance(thing, PLAIN):
      return repr(thing)
    if isinstance(thing, str | os.PathLike):
      return self._text(os.fspath(thing))
    if id(thing) not in self._known:
      self._known[id(thing)] = (thing, "loop")  # while it is looked into
      text = self._looked_into(thing)
      self._known[id(thing)] = (thing, hashlib.blake2b(text.encode(), digest_size=16).hexdigest())
    return self._known[id(thing)][1]

  def _looked_into(self, thing: Any) -> str:
    if isinstance(thing, Mapping):
      return (
        "{" + ",".join(sorted(f"{self.told(k)}:{self.told(v)}" for k, v in thing.items())) + "}"
      )
    if isinstance(thing, set | frozenset):
      return "{" + ",".join(sorted(map(self.told, thing))) + "}"
    if isinstance(thing, list | tuple):
      return "[" + ",".join(map(self.told, thing)) + "]"
    if isinstance(thing, functools.partial):
      return f"partial{self.told([thing.func, thing.args, thing.keywords])}"
    if isinstance(thing, types.MethodType):
      return f"{self.told(thing.__self__)}.{thing.__name__}"
    if isinstance(thing, types.FunctionType):
      cells = [c.cell_contents for c in thing.__closure__ or () if _filled(c)]
      held = self.told([cells, thing.__defaults__, thing.__kwdefaults__])
      return f"{thing.__module__}.{thing.__qualname__}@{self._module(thing)}{held}"
    if isinstance(thing, type):
      return f"{thing.__module__}.{thing.__qualname__}"
    array = _array(thing)
    if array is not None:
      return f"{array.dtype}{array.shape}{hashlib.blake2b(array.tobytes()).hexdigest()}"
    return f"{self.told(type(thing))}@{self._module(type(thing))}{self.told(_fields(thing))}"

  def _text(self, text: str) -> str:
    """A string; where it names a file or is a pattern of files, also what is in them."""
    if len(text) > 1000 or "\0" in text:
      return repr(text)
    if glob.has_magic(text):
      names = self._seen.patterns[text] = sorted(glob.glob(text))
      return repr(text) + "".join(map(self._file, names))
    return self._file(text) or repr(text)

  def _module(self, thing: Any) -> str:
    """The digest of the source file of a function or class, where it has one."""
    try:
      return self._file(inspect.getsourcefile(thing) or "")
    except TypeError:
      return ""

  def _file(self, path: str) -> str:
    """What is in a file; nothing where there is none."""
    found = stamp(path)
    if found is not None or os.sep in path:  # of plain words most will never be files
      self._seen.files[os.path.abspath(path)] = found
    if found is None:
      return ""
    return f"file:{_content(path, *found)}" if found[0] <= WHOLE else f"file:{found[0]}:{found[1]}"


def _fields(thing: Any) -> dict[str, Any]:
  """What an object holds, without what it found out later: values that a call may fill in."""
  if dataclasses.is_dataclass(thing):
    return {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)}
  return {
    name: value
    for name, value in getattr(thing, "__dict__", {}).items()
    if callable(value) or isinstance(value, str | int | float | bytes | list | tuple | Mapping)
  }


def _array(thing: Any) -> np.ndarray | None:
  """A NumPy array or a tensor, as an array of anything but objects."""
  if hasattr(thing, "numpy") and callable(thing.numpy):
    thing = thing.numpy()
  return thing if isinstance(thing, np.ndarray) and not thing.dtype.hasobject else None


@functools.lru_cache(maxsize=4096)
def _content(path: str, size: int, changed: int) -> str:
  """The digest of a file; size and time of change let the memory of it expire."""
  try:
    with open(path, "rb") as f:
      return hashlib.file_digest(f, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
  except OSError:
    return f"{size}:{changed}"


def _filled(cell: types.CellType) -> bool:
  try:
    cell.cell_contents  # noqa: B018
  except ValueError:
    return False
  return True
