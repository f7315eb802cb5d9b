"""Tokenised examples on disk: flat ids, memory-mapped, so that any example can be read at once.

A cache is a folder `<cache>/tokens/<task>-<split>-<fingerprint>/` with `meta.json` and, for every
feature, `<feature>.ids` (uint16 or int32) and `<feature>.ends` (int64, where each example ends).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from typing import BinaryIO

import numpy as np

from mtm.data.store import cache_directory
from mtm.errors import UserError

FORMAT = 1
FLUSH = 1 << 20  # ids that are held before they are written


@dataclasses.dataclass(frozen=True)
class TokenCache:
  """The tokens of one split of one task.

  Attributes:
    digest: of all ids: tells one content from another.
    ids: feature → `[tokens]`.
    ends: feature → int64 `[examples]`, where each example ends in `ids`.
  """

  digest: str
  ids: Mapping[str, np.ndarray]
  ends: Mapping[str, np.ndarray]

  def __len__(self) -> int:
    return min(len(ends) for ends in self.ends.values())

  def example(self, i: int) -> dict[str, np.ndarray]:
    """Feature → int32 `[length]` of example `i`."""
    return {
      name: ids[int(self.ends[name][i - 1]) if i else 0 : int(self.ends[name][i])].astype(np.int32)
      for name, ids in self.ids.items()
    }

  @classmethod
  def open(cls, folder: pathlib.Path) -> TokenCache | None:
    """The cache in `folder`, None where there is none or it is damaged."""
    try:
      meta = json.loads((folder / "meta.json").read_text())
      if meta["format"] != FORMAT:
        return None
      ids = {n: _mapped(folder / f"{n}.ids", f["dtype"]) for n, f in meta["features"].items()}
      ends = {n: _mapped(folder / f"{n}.ends", "int64") for n in meta["features"]}
      for name, told in meta["features"].items():
        last = int(ends[name][-1]) if len(ends[name]) else 0
        if not len(ids[name]) == last == told["tokens"] or len(ends[name]) != meta["examples"]:
          return None
      return cls(meta["digest"], ids, ends)
    except (OSError, ValueError, KeyError, TypeError):
      return None


def folder_of(task: str, split: str, fingerprint: str) -> pathlib.Path:
  """Where the cache of a task's split lies."""
  plain = re.sub(r"[^\w.=-]+", "_", f"{task}-{split}")
  return cache_directory() / "tokens" / f"{plain}-{fingerprint}"


def build(
  folder: pathlib.Path, examples: Iterable[Mapping[str, np.ndarray]], sizes: Mapping[str, int]
) -> TokenCache:
  """Writes a cache: whole or not at all, for another process may read or write the same one.

  Args:
    folder: where; a damaged cache there is replaced.
    examples: feature → `[length]` ids.
    sizes: feature → size of its vocabulary.

  Raises:
    UserError: the disk is full, the place cannot be written to, or an id is not in the vocabulary.
  """
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
  except OSError as e:
    raise _unwritable(folder, e) from e
  try:
    _write(scratch, examples, sizes)
    _replace(folder, scratch)
  except OSError as e:
    raise _unwritable(folder, e) from e
  finally:
    shutil.rmtree(scratch, ignore_errors=True)
  made = TokenCache.open(folder)
  if made is None:
    raise UserError(f"{folder}: what was just written cannot be read; is the disk sound?")
  return made


def _write(
  folder: pathlib.Path, examples: Iterable[Mapping[str, np.ndarray]], sizes: Mapping[str, int]
) -> None:
  """Streams the examples to files, and tells about them in meta.json."""
  writers = {name: _Writer(folder, name, size) for name, size in sizes.items()}
  count = 0
  try:
    for example in examples:
      count += 1
      for name, writer in writers.items():
        writer.add(example[name])
    for writer in writers.values():
      writer.flush()
  finally:
    for writer in writers.values():
      writer.close()
  digest = hashlib.blake2b(digest_size=16)
  for name in sorted(writers):
    digest.update(name.encode() + writers[name].digest.digest())
  features = {n: {"dtype": w.dtype.name, "tokens": w.tokens} for n, w in writers.items()}
  meta = {
    "format": FORMAT,
    "examples": count,
    "digest": digest.hexdigest(),
    "features": features,
  }
  (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


class _Writer:
  """Writes one feature."""

  def __init__(self, folder: pathlib.Path, name: str, vocab_size: int) -> None:
    self.dtype = np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.int32)
    self._name, self._vocab_size = name, vocab_size
    self.tokens = 0
    self.digest = hashlib.blake2b(digest_size=16)
    self._files = [(folder / f"{name}.{kind}").open("wb") for kind in ("ids", "ends")]
    self._ids: list[np.ndarray] = []
    self._ends: list[int] = []
    self._held = 0

  def add(self, ids: np.ndarray) -> None:
    """One example."""
    self._ids.append(ids)
    self.tokens += len(ids)
    self._held += len(ids)
    self._ends.append(self.tokens)
    if self._held >= FLUSH or len(self._ends) >= FLUSH:
      self.flush()

  def flush(self) -> None:
    """Writes what is held."""
    if self._ends:
      ids = np.concatenate(self._ids)
      if len(ids) and not 0 <= ids.min() <= ids.max() < self._vocab_size:
        raise UserError(
          f"the feature {self._name!r} holds an id outside its vocabulary of {self._vocab_size}: "
          "give the task the vocabulary that made its tokens"
        )
      self._put(self._files[0], ids.astype(self.dtype))
      self._put(self._files[1], np.asarray(self._ends, np.int64))
    self._ids, self._ends, self._held = [], [], 0

  def close(self) -> None:
    for file in self._files:
      file.close()

  def _put(self, file: BinaryIO, values: np.ndarray) -> None:
    self.digest.update(values.tobytes())
    file.write(values.tobytes())


def _mapped(path: pathlib.Path, dtype: str) -> np.ndarray:
  """A file as a read-only array; a plain one, whose slices are quicker than a memmap's."""
  if path.stat().st_size == 0:
    return np.zeros(0, dtype)
  return np.memmap(path, dtype, "r").view(np.ndarray)


def _replace(folder: pathlib.Path, scratch: pathlib.Path) -> None:
  """Moves `scratch` to `folder`."""
  if folder.exists() and TokenCache.open(folder) is None:
    shutil.rmtree(folder, ignore_errors=True)
  try:
    scratch.chmod(0o755)
    scratch.rename(folder)
  except OSError:
    if TokenCache.open(folder) is None:  # else another process was as quick, with the same
      raise


def _unwritable(folder: pathlib.Path, e: OSError) -> UserError:
  return UserError(
    f"cannot write the token cache {folder}: {e.strerror or e}; free some space, set MTM_CACHE to "
    "another place or turn the cache off (USE_CACHED_TASKS=False)"
  )
