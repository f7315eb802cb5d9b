import ctypes
import os
import sys
import types

from mtm.programs import allocator


def test_the_program_starts_again_with_huge_pages(monkeypatch):
  calls = []
  monkeypatch.delenv(allocator.TUNABLES, raising=False)
  monkeypatch.setattr(os, "execv", lambda *args: calls.append(args))
  monkeypatch.setattr(sys, "platform", "linux")
  monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "mtm.cli", "train", "--x"])
  allocator.tune()
  assert calls == [(sys.executable, [sys.executable, "-m", "mtm.cli", "train", "--x"])]
  assert os.environ[allocator.TUNABLES] == allocator.SETTING
  allocator.tune()  # in the process that was started: its setting is there
  assert len(calls) == 1


def test_frugal_sets_what_malloc_keeps_and_does_without_glibc(monkeypatch):
  told = {}
  monkeypatch.setattr(ctypes, "CDLL", lambda _: types.SimpleNamespace(mallopt=told.__setitem__))
  allocator.frugal()
  assert told == {
    -8: 1,
    -3: 1 << 22,
    -1: 1 << 22,
  }  # M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
  monkeypatch.setattr(ctypes, "CDLL", lambda _: types.SimpleNamespace())
  allocator.frugal()
