"""`metrics.jsonl`, one object a logged step, and the same numbers as TensorBoard events.

`metrics.jsonl` is the record: every line is written at once, in full precision, and a resumed run
cuts it back so that no step is told twice. TensorBoard events follow that file: see
`mtm.training.events`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import numbers
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from mtm.errors import UserError
from mtm.training import events

FILE = "metrics.jsonl"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class MetricsWriter:
  """Appends to `MODEL_DIR/metrics.jsonl`. On several hosts only the first one makes a writer.

  A line is `{"step": 12, "split": "train", "loss": 2.5}`: floats in their shortest decimal form
  that reads back as the same float64; NaN and the infinities, which JSON lacks, as the strings
  "NaN", "Infinity" and "-Infinity", which `read` and Python's `float` turn back. A line that a
  killed process left half-written is dropped when the file is next opened.
  """

  def __init__(self, model_dir: str | os.PathLike[str], tensorboard: bool = True) -> None:
    """Opens the file, and makes `model_dir` if need be.

    Args:
      model_dir: where the file and the events lie.
      tensorboard: whether to write events too. They need TensorFlow; without it this says so once.

    Raises:
      UserError: the directory cannot be written.
    """
    self.path = Path(model_dir) / FILE
    self._tensorboard = tensorboard
    self._events: events.Events | None = None
    with _explained(self.path):
      self.path.parent.mkdir(parents=True, exist_ok=True)
      self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
      self._drop_half_line()

  def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
    """Appends one line and hands it to the operating system: a killed process loses nothing.

    Args:
      step: training steps taken.
      split: `"train"`, or the name of what was evaluated.
      values: name → number, or an array of numbers, which becomes nested lists (one number alone
        stays a number). Integers stay integers.

    Raises:
      UserError: the disk is full; the file then still ends with a whole line.
      ValueError: a value is no number or array of numbers, or is named `step` or `split`.
    """
    line = _line(step, split, values)
    before = os.fstat(self._file).st_size
    with _explained(self.path):
      try:
        _write_all(self._file, line)
      except OSError:
        with contextlib.suppress(OSError):
          os.ftruncate(self._file, before)
        raise
    if self._tensorboard and self._events is None:
      self._events = events.start(self.path, before)

  def truncate(self, step: int) -> None:
    """Drops all lines after `step`, atomically: a run restored at `step` will write them again."""
    if self._events is not None:
      self._events.close()
      self._events = None
    rows = _rows(self.path)
    kept = b"".join(line for line, row in rows if row["step"] <= step)
    with _explained(self.path):
      if len(kept) == os.fstat(self._file).st_size:
        return
      swap = self.path.with_name(f".{FILE}.{os.getpid()}")
      with open(swap, "wb") as file:
        file.write(kept)
        file.flush()
        os.fsync(file.fileno())
      os.replace(swap, self.path)
      os.close(self._file)
      self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)

  def flush(self) -> None:
    """Forces what was written onto the disk."""
    with _explained(self.path), contextlib.suppress(OSError):  # a pipe or device cannot be synced
      os.fsync(self._file)

  def close(self) -> None:
    """Closes the file and waits until the events are written. Safe to call twice."""
    if self._events is not None:
      self._events.close()
      self._events = None
    if self._file >= 0:
      self.flush()
      os.close(self._file)
      self._file = -1

  def __enter__(self) -> MetricsWriter:
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    self.close()

  def _drop_half_line(self) -> None:
    size = os.fstat(self._file).st_size
    if size and os.pread(self._file, 1, size - 1) != b"\n":
      whole = self.path.read_bytes().rfind(b"\n") + 1
      os.ftruncate(self._file, whole)


def read(model_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """All whole lines of `MODEL_DIR/metrics.jsonl`, in order; an empty list when there is no file.

  Raises:
    UserError: a line in the file is damaged; names its number.
  """
  return [row for _, row in _rows(Path(model_dir) / FILE)]


def plain(value: Any) -> Any:
  """One number as a float, an array of several as it is."""
  return value if np.ndim(value) and np.size(value) != 1 else float(np.reshape(value, ()))


def _rows(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
  try:
    data = path.read_bytes()
  except FileNotFoundError:
    return
  for number, line in enumerate(data.splitlines(keepends=True), 1):
    if not line.endswith(b"\n"):
      return  # the process was killed in the middle of it
    try:
      row = json.loads(line)
      int(row["step"])
    except (ValueError, TypeError, KeyError):
      raise UserError(
        f"{path}:{number} is not a JSON object with a step; delete that line or move the file away"
      ) from None
    yield line, {name: _number(name, value) for name, value in row.items()}


def _number(name: str, value: Any) -> Any:
  if isinstance(value, list):
    return [_number(name, one) for one in value]
  if name != "split" and isinstance(value, str):
    return float(value)
  return value


def _line(step: int, split: str, values: Mapping[str, Any]) -> bytes:
  row: dict[str, Any] = {"step": int(step), "split": split}
  for name, value in values.items():
    if name in row:
      raise ValueError(f"a metric cannot be named {name!r}: every line has a field of that name")
    row[name] = _plain(name, value)
  return json.dumps(row, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _plain(name: str, value: Any) -> Any:
  if isinstance(value, numbers.Integral):
    return int(value)
  if isinstance(value, list):
    return [_plain(name, one) for one in value]
  if np.ndim(value) and np.size(value) != 1:
    # Float32 has no more digits than these, and the file would have twice the size.
    return _plain(name, np.vectorize(lambda x: float(f"{x:.7g}"))(np.asarray(value)).tolist())
  try:
    number = float(value)
  except (TypeError, ValueError):
    raise ValueError(f"metric {name!r} is not one number but {value!r}") from None
  if math.isnan(number):
    return "NaN"
  if math.isinf(number):
    return "Infinity" if number > 0 else "-Infinity"
  return number


def _write_all(file: int, data: bytes) -> None:
  view = memoryview(data)
  while view:
    view = view[os.write(file, view) :]


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    if error.errno in _NO_SPACE:
      why = "the disk is full; free some space and run the same command again"
    else:
      why = f"{error.strerror or error}; choose a MODEL_DIR that can be written"
    raise UserError(f"cannot write {path}: {why}") from error
