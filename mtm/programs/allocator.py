"""How malloc should work for XLA on CPU, which is bound by page faults otherwise."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

TUNABLES = "GLIBC_TUNABLES"
# Huge pages, and memory that was touched once stays: a step's buffers are not given back to the
# system at its end, to be faulted in again by the next.
SETTING = ":".join(
  f"glibc.malloc.{name}={value}"
  for name, value in {
    "hugetlb": 1, "mmap_threshold": 2**33, "trim_threshold": 2**34, "arena_max": 1,
  }.items()
)  # fmt: skip


def tune() -> None:
  """Starts the program again with `SETTING` for malloc, where it runs on glibc.

  glibc reads it before a process begins. A value that the user has set is left alone.
  `benchmarks/LOG.md` tells what it gains.
  """
  if sys.platform == "linux" and TUNABLES not in os.environ:
    os.environ[TUNABLES] = SETTING
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def frugal() -> None:
  """From now on gives what is freed back to the system at once, where this runs on glibc.

  By itself malloc keeps freed blocks of up to 32 MiB for each of its arenas, so that a program that
  goes through one large array after the other holds several of them that it has no use for.
  """
  arena_max, mmap_threshold, trim_threshold = -8, -3, -1  # of glibc's malloc.h
  with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
    mallopt = ctypes.CDLL(None).mallopt
    for parameter, value in (
      (arena_max, 1), (mmap_threshold, 1 << 22), (trim_threshold, 1 << 22),
    ):  # fmt: skip
      mallopt(parameter, value)
