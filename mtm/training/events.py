"""TensorBoard events that follow `metrics.jsonl`, written by `clu.metric_writers`.

clu imports TensorFlow, whose import takes seconds, prints to the terminal and reaches for a GPU.
So where the data pipeline has loaded TensorFlow already, a thread writes the events, and elsewhere
a child process (`python -m mtm.training.events`): training never waits for either, and a failure
of either is logged once and leaves `metrics.jsonl` complete.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

_log = logging.getLogger(__name__)
_told: set[str] = set()
PERIOD = 1.0  # seconds between two looks at the file
PATIENCE = 60.0  # seconds that `close` waits; TensorFlow's import takes ten on a slow machine


class Events(Protocol):
  """Something that writes events until it is closed."""

  def close(self) -> None:
    """Writes what is still missing and ends."""


def start(path: Path, offset: int) -> Events | None:
  """Follows the file at `path` from byte `offset` on, and writes events next to it.

  Returns:
    What to close at the end, or None when TensorFlow is absent, which is logged once.
  """
  if not _available("tensorflow") or not _available("clu"):
    _tell("TensorBoard events are not written: TensorFlow or clu is not installed")
    return None
  if "tensorflow" in sys.modules:
    return _Thread(path, offset)
  return _Child(path, offset)


class _Thread:
  def __init__(self, path: Path, offset: int) -> None:
    self._stop = threading.Event()
    self._thread = threading.Thread(
      target=self._run, args=(path, offset), name="tensorboard", daemon=True
    )
    self._thread.start()
    atexit.register(self.close)

  def _run(self, path: Path, offset: int) -> None:
    try:
      follow(path, offset, self._stop.wait)
    except Exception as error:  # whatever breaks here must not reach the training loop
      _tell(f"TensorBoard events are not written: {error}")

  def close(self) -> None:
    atexit.unregister(self.close)
    self._stop.set()
    self._thread.join(PATIENCE)


class _Child:
  def __init__(self, path: Path, offset: int) -> None:
    # Its own session, so that Ctrl-C reaches only the parent; no GPU; no word on the terminal.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONWARNINGS": "ignore"}
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(
      filter(None, [root, environment.get("PYTHONPATH", "")])
    )
    self._process = subprocess.Popen(
      [sys.executable, "-m", "mtm.training.events", str(path), str(offset)],
      stdin=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      start_new_session=True,
      env=environment,
    )
    atexit.register(self.close)

  def close(self) -> None:
    atexit.unregister(self.close)
    assert self._process.stdin is not None
    with contextlib.suppress(OSError):
      self._process.stdin.close()  # the end of its input is the end of the run
    try:
      code = self._process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
      _tell("TensorBoard events are late: their writer still works in the background")
      return
    if code:
      _tell(f"TensorBoard events are incomplete: their writer ended with exit code {code}")


def follow(path: Path, offset: int, wait: Callable[[float], bool]) -> None:
  """Writes an event for every number in every whole line after byte `offset`.

  A tag is `split/name`, and `split/name/2` for the third number of a list, such as a figure of the
  third layer; tables are left to `metrics.jsonl`. NaN and the infinities become themselves.

  Args:
    path: the JSONL file; events go into its directory.
    offset: where to begin.
    wait: sleeps up to so many seconds, and returns whether this look shall be the last.
  """
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of third parties, at their import
    from clu.metric_writers import SummaryWriter

  with contextlib.suppress(RuntimeError):  # TensorFlow is already running, with what it has
    sys.modules["tensorflow"].config.set_visible_devices([], "GPU")
  writer = SummaryWriter(str(path.parent))
  try:
    last = False
    while not last:
      last = wait(PERIOD)
      offset = _forward(path, offset, writer)
      writer.flush()
  finally:
    writer.close()


def _forward(path: Path, offset: int, writer: Any) -> int:
  with open(path, "rb") as file:
    file.seek(offset)
    data = file.read()
  whole = data.rfind(b"\n") + 1
  for line in data[:whole].splitlines():
    row = json.loads(line)
    step, split = row.pop("step"), row.pop("split")
    writer.write_scalars(step, dict(_scalars(split, row)))
  return offset + whole


def _scalars(split: str, row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
  for name, value in row.items():
    if not isinstance(value, list):
      yield f"{split}/{name}", float(value)
      continue
    for place, one in enumerate(value):
      if not isinstance(one, list):
        yield f"{split}/{name}/{place}", float(one)


def _available(module: str) -> bool:
  if module in sys.modules:
    return sys.modules[module] is not None
  try:
    return importlib.util.find_spec(module) is not None
  except (ImportError, ValueError):
    return False


def _tell(message: str) -> None:
  if message not in _told:
    _told.add(message)
    _log.warning(message)


def _main(arguments: list[str], stdin: IO[bytes]) -> None:
  """Follows until `stdin` ends, which it also does when the parent is killed."""
  ended = threading.Event()

  def watch() -> None:
    stdin.read()
    ended.set()

  threading.Thread(target=watch, daemon=True).start()
  with contextlib.suppress(OSError, AttributeError):
    os.nice(10)  # training comes first
  follow(Path(arguments[0]), int(arguments[1]), ended.wait)


if __name__ == "__main__":
  _main(sys.argv[1:], sys.stdin.buffer)
