"""HuggingFace's safetensors: one file or many with an index, a tensor in memory at a time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtm.errors import UserError

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 1 << 30
HEADER_BYTES = 1 << 17  # room for a thousand names
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


class Safetensors:
  """The weights of a HuggingFace directory; see `mtm.interop.tree.Source`."""

  def __init__(self, directory: str | Path) -> None:
    """Reads the headers only.

    Raises:
      UserError: no weights there, a file that the index names is missing, or one is damaged.
    """
    self.directory, self.where = Path(directory), str(directory)
    self._file_of: dict[str, Path] = {}
    file_of = self._index()
    for path in self._files(file_of):
      with _opened(path) as file:
        self._file_of.update(dict.fromkeys(file.keys(), path))
    gone = sorted(file_of.keys() - self._file_of.keys())
    if gone:
      raise UserError(
        f"{self.directory / INDEX} names {gone[0]}, which is in none of its files: copy them again"
      )

  def _index(self) -> dict[str, str]:
    """Tensor → file, as the index says; empty where there is none."""
    index = self.directory / INDEX
    if not index.exists():
      return {}
    try:
      return dict(json.loads(index.read_text())["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
      raise UserError(f"{index} is damaged ({error}): copy it again") from error

  def _files(self, file_of: Mapping[str, str]) -> list[Path]:
    files = [self.directory / name for name in sorted(set(file_of.values()) or {ONE})]
    for path in files:
      if not path.exists():
        others = sorted(p.name for p in self.directory.glob("*.bin"))
        hint = f"; it has {others[0]}: save it as safetensors first" if others else ""
        raise UserError(f"{self.where} has no {path.name}{hint}")
    return files

  def names(self) -> set[str]:
    """See `Source.names`."""
    return set(self._file_of)

  def get(self, name: str) -> np.ndarray:
    """See `Source.get`."""
    path = self._file_of[name]
    with _opened(path) as file:
      return file.get_tensor(name)


class Renamed:
  """A source under other names.

  Attributes:
    source: the tensors as they are.
    theirs: name as a table has it → name as the source has it.
  """

  def __init__(self, source: Any, theirs: Mapping[str, str]) -> None:
    self.source, self.where, self.theirs = source, source.where, dict(theirs)

  def names(self) -> set[str]:
    """See `Source.names`."""
    return set(self.theirs)

  def get(self, name: str) -> np.ndarray:
    """See `Source.get`."""
    return self.source.get(self.theirs[name])


def save(directory: str | Path, tensors: Iterable[tuple[str, np.ndarray]]) -> int:
  """Writes tensors, each as it comes, in files of about `SHARD_BYTES`, and their index where there
  are several.

  Returns:
    how many values were written.
  """
  folder = Path(directory)
  folder.mkdir(parents=True, exist_ok=True)
  files: list[_Part] = []
  total = count = 0
  with contextlib.ExitStack() as stack:
    for name, values in tensors:
      if not files or not files[-1].takes(name, values):
        stack.close()
        files.append(stack.enter_context(_Part(folder / f"part-{len(files)}.safetensors")))
      files[-1].add(name, values)
      total, count = total + values.nbytes, count + values.size
  if len(files) == 1:
    files[0].path.replace(folder / ONE)
    return count
  weight_map: dict[str, str] = {}
  for number, file in enumerate(files):
    shard = f"model-{number + 1:05}-of-{len(files):05}.safetensors"
    file.path.replace(folder / shard)
    weight_map |= dict.fromkeys(file.names, shard)
  index = {"metadata": {"total_size": total}, "weight_map": weight_map}
  (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
  return count


class _Part:
  """A file that grows by a tensor at a time.

  What it holds is told at its beginning, where room is left for that: the format allows spaces
  there.
  """

  def __init__(self, path: Path) -> None:
    self.path, self.names = path, list[str]()
    self._told = {"__metadata__": {"format": "pt"}}
    self._room, self._end = len(json.dumps(self._told)), 0

  def __enter__(self) -> _Part:
    self._file = self.path.open("wb")
    self._file.seek(8 + HEADER_BYTES)
    return self

  def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
    with self._file:
      self._file.seek(0)
      self._file.write(HEADER_BYTES.to_bytes(8, "little"))
      self._file.write(json.dumps(self._told).encode().ljust(HEADER_BYTES))

  def takes(self, name: str, values: np.ndarray) -> bool:
    """Whether it has room for another tensor."""
    room = self._room + len(json.dumps({name: self._entry(values)}))
    return self._end + values.nbytes <= SHARD_BYTES and room <= HEADER_BYTES

  def add(self, name: str, values: np.ndarray) -> None:
    """Writes a tensor."""
    entry = self._entry(values)
    self._file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    self._told[name] = entry
    self._room += len(json.dumps({name: entry}))
    self._end += values.nbytes
    self.names.append(name)

  def _entry(self, values: np.ndarray) -> dict[str, Any]:
    offsets = [self._end, self._end + values.nbytes]
    return {"dtype": DTYPES[values.dtype.name], "shape": values.shape, "data_offsets": offsets}


def _opened(path: Path) -> Any:
  from safetensors import SafetensorError, safe_open

  try:
    return safe_open(str(path), framework="np")
  except (SafetensorError, OSError) as error:
    raise UserError(f"{path} is damaged or no safetensors file ({error}): copy it again") from error
