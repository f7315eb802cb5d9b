"""How malloc should work for XLA on CPU, which is bound by page faults otherwise."""

from __future__ import annotations

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
