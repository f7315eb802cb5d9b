import os
import sys

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
