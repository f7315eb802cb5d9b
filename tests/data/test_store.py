"""Files are seen whole or not at all, and the cache lies where the user says."""

from __future__ import annotations

import os
import pathlib

import pytest

from mtm.data.store import cache_directory, write_atomically
from mtm.errors import UserError


def test_the_cache_follows_the_environment(monkeypatch):
  monkeypatch.delenv("MTM_CACHE", raising=False)
  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  assert cache_directory() == pathlib.Path.home() / ".cache" / "mtm"
  monkeypatch.setenv("XDG_CACHE_HOME", "/x")
  assert cache_directory() == pathlib.Path("/x/mtm")
  monkeypatch.setenv("MTM_CACHE", "~/mine")
  assert cache_directory() == pathlib.Path.home() / "mine"


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
  path = tmp_path / "deep" / "file"
  write_atomically(path, b"one")
  write_atomically(path, b"two")
  assert path.read_bytes() == b"two"
  assert os.listdir(path.parent) == ["file"]
  assert path.stat().st_mode & 0o777 == 0o644


def test_a_place_that_cannot_be_written_is_told(tmp_path):
  (tmp_path / "file").write_bytes(b"")
  with pytest.raises(UserError, match="cannot write .*file/below: "):
    write_atomically(tmp_path / "file" / "below", b"")


def test_a_failure_leaves_the_old_file_and_no_scrap(tmp_path, monkeypatch):
  path = tmp_path / "file"
  write_atomically(path, b"old")

  def full(*_: object) -> None:
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "replace", full)
  with pytest.raises(UserError, match="No space left on device"):
    write_atomically(path, b"new")
  assert path.read_bytes() == b"old"
  assert os.listdir(tmp_path) == ["file"]
