"""Arrays of a checkpoint in pieces: what is larger than memory is read and written all the same.

An array is a zarr of chunks in a directory of OCDBT, as orbax lays it out.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

Index = tuple[slice, ...]


class Stored:
  """An array of an item's directory, of which nothing is in memory.

  Attributes:
    shape, dtype: of the whole.
  """

  def __init__(
    self, directory: Path, name: str, told: Callable[[], AbstractContextManager[None]]
  ) -> None:
    """Opens it.

    Args:
      directory: of the item.
      name: the array's path in its tree, joined by dots.
      told: a context in which the array is read; makes one sentence of what fails.
    """
    import tensorstore

    self._told = told
    base = {"driver": "ocdbt", "base": f"file://{directory}/", "path": f"{name}/"}
    with told():
      spec = {"driver": "zarr", "kvstore": base, "fill_missing_data_reads": False}
      self._store = tensorstore.open(spec, read=True).result()
    self.shape, self.dtype = tuple(self._store.shape), self._store.dtype.numpy_dtype

  def __getitem__(self, index: Any) -> np.ndarray:
    """Reads a part."""
    with self._told():
      return np.asarray(self._store[index].read().result())

  def pieces(self) -> Iterator[tuple[Index, np.ndarray]]:
    """All parts, read one at a time, and where they lie."""
    for index in grid(self.shape, _chunk(self._store.chunk_layout.read_chunk)):
      yield index, self[index]


class Writing:
  """Whether somebody still wants what is written in a thread."""

  def __init__(self) -> None:
    self._given_up, self._idle = threading.Event(), threading.Event()
    self._idle.set()

  def give_up(self, seconds: float = 30.0) -> None:
    """Returns when nothing is written any more, for what is there to be removed."""
    self._given_up.set()
    self._idle.wait(seconds)

  @contextlib.contextmanager
  def going_on(self) -> Iterator[None]:
    """Stands around all writing."""
    self._idle.clear()
    try:
      yield
    finally:
      self._idle.set()

  async def array(self, spec: dict[str, Any], context: Any, values: np.ndarray) -> None:
    """Writes an array chunk by chunk, each before the next is looked at.

    Args:
      spec: TensorStore's, with its chunks.
      context: TensorStore's.
      values: may lie in a file.
    """
    import tensorstore

    self._check()
    dtype = tensorstore.dtype(values.dtype)  # not every orbax says it in the spec
    store = await tensorstore.open(spec, create=True, open=True, context=context, dtype=dtype)
    for index in grid(values.shape, _chunk(store.chunk_layout.write_chunk)):
      self._check()
      await store[index].write(values[index])

  def _check(self) -> None:
    if self._given_up.is_set():
      raise InterruptedError("given up")


def grid(shape: Sequence[int], chunk: Sequence[int]) -> Iterator[Index]:
  """The places of chunks that cover an array."""
  starts = [range(0, size, part) for size, part in zip(shape, chunk, strict=True)]
  for corner in itertools.product(*starts):
    yield tuple(slice(a, min(a + n, s)) for a, n, s in zip(corner, chunk, shape, strict=True))


def _chunk(told: Any) -> tuple[int, ...]:
  return tuple(told.shape or ())  # a scalar has none
