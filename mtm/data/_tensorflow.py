"""TensorFlow's room: the only two ways by which mtm imports TensorFlow and SeqIO.

Both are imported on first use, quietly, and TensorFlow never sees a GPU: it would take the memory
that JAX needs.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from mtm.errors import UserError

_importing = threading.RLock()
_came_loaded = False


@functools.cache
def tensorflow() -> Any:
  """The `tensorflow` module, without its start-up chatter and blind to GPUs.

  Raises:
    UserError: it is not installed.
  """
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  with _quiet():
    tf = _imported("tensorflow")
    tf.get_logger().setLevel(logging.ERROR)
    tf.config.set_visible_devices([], "GPU")
    tf.constant(0)  # starts its devices, and what they say
  return tf


@functools.cache
def seqio() -> Any:
  """The `seqio` module, imported after `tensorflow()`.

  Raises:
    UserError: it is not installed.
  """
  global _came_loaded
  _came_loaded = "seqio" in sys.modules
  tensorflow()
  with _quiet():
    found = _imported("seqio")
  # SeqIO warns of what is usual here, such as tasks without an offline cache.
  logging.getLogger("absl").addFilter(
    lambda record: (
      record.levelno >= logging.ERROR or f"{os.sep}seqio{os.sep}" not in record.pathname
    )
  )
  return found


def came_loaded() -> bool:
  """Whether somebody else has imported SeqIO before mtm did."""
  return _came_loaded or ("seqio" in sys.modules and not seqio.cache_info().currsize)


def _imported(name: str) -> Any:
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as e:
    raise UserError(
      f"reading tasks needs {name}, and {e.name!r} is not installed: pip install {name}"
    ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """No warnings, which a user could not act on, and nothing on the standard error.

  TensorFlow's libraries write to the file descriptor before any level that could be set holds.
  """
  sys.stderr.flush()
  with _importing, warnings.catch_warnings(), open(os.devnull, "w") as nothing:
    warnings.simplefilter("ignore")
    kept = os.dup(2)
    os.dup2(nothing.fileno(), 2)
    try:
      yield
    finally:
      os.dup2(kept, 2)
      os.close(kept)
