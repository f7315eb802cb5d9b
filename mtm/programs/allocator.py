"""Huge pages for malloc: XLA on CPU is page-fault bound. Imports nothing that takes time."""

from __future__ import annotations

import os
import sys

TUNABLES = "GLIBC_TUNABLES"


def tune() -> None:
  """Starts the program again with huge pages for malloc, where it runs on glibc.

  glibc reads this setting before a process begins. A value that the user has set is left alone.
  `benchmarks/LOG.md` tells what it gains.
  """
  if sys.platform == "linux" and TUNABLES not in os.environ:
    os.environ[TUNABLES] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
