"""HuggingFace's safetensors: one file or many with an index, a tensor in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtm.errors import UserError

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 1 << 30  # files of about a gigabyte, which is what has to be in memory to write one


class Safetensors:
  """The weights of a HuggingFace directory; see `mtm.interop.tree.Source`."""

  def __init__(self, directory: str | Path) -> None:
    """Reads the headers only.

    Raises:
      UserError: no weights there, a file that the index names is missing, or one is damaged.
    """
    self.directory, self.where = Path(directory), str(directory)
    self._file_of: dict[str, Path] = {}
    for path in self._files():
      with _opened(path) as file:
        self._file_of.update(dict.fromkeys(file.keys(), path))

  def _files(self) -> list[Path]:
    index = self.directory / INDEX
    if index.exists():
      try:
        names = set(json.loads(index.read_text())["weight_map"].values())
      except (ValueError, KeyError) as error:
        raise UserError(f"{index} is damaged ({error}): copy it again") from error
      files = [self.directory / name for name in sorted(names)]
    else:
      files = [self.directory / ONE]
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
  """Writes tensors in files of about `SHARD_BYTES`, and their index where there are several.

  Returns:
    how many values were written.
  """
  from safetensors.numpy import save_file

  folder = Path(directory)
  folder.mkdir(parents=True, exist_ok=True)
  files: list[list[str]] = []
  batch: dict[str, np.ndarray] = {}
  total = count = 0

  def flush() -> None:
    nonlocal batch
    save_file(batch, str(folder / f"part-{len(files)}.safetensors"), {"format": "pt"})
    files.append(list(batch))
    batch = {}

  for name, values in tensors:
    if batch and sum(x.nbytes for x in batch.values()) + values.nbytes > SHARD_BYTES:
      flush()
    batch[name] = np.ascontiguousarray(values)
    total, count = total + values.nbytes, count + values.size
  flush()
  if len(files) == 1:
    (folder / "part-0.safetensors").replace(folder / ONE)
    return count
  weight_map: dict[str, str] = {}
  for number, names in enumerate(files):
    shard = f"model-{number + 1:05}-of-{len(files):05}.safetensors"
    (folder / f"part-{number}.safetensors").replace(folder / shard)
    weight_map |= dict.fromkeys(names, shard)
  index = {"metadata": {"total_size": total}, "weight_map": weight_map}
  (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
  return count


def _opened(path: Path) -> Any:
  from safetensors import SafetensorError, safe_open

  try:
    return safe_open(str(path), framework="np")
  except (SafetensorError, OSError) as error:
    raise UserError(f"{path} is damaged or no safetensors file ({error}): copy it again") from error
