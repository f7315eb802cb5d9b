"""A file that cannot be replaced stays as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mtm.errors import UserError
from mtm.report import _files


def test_writing_replaces_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
  path = tmp_path / "plots" / "x.png"
  for data in (b"old", b"new"):
    assert _files.write(path, data) == path
  assert path.read_bytes() == b"new"
  assert os.listdir(path.parent) == ["x.png"]


def test_a_full_disk_keeps_the_old_file_and_says_so(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  path = _files.write(tmp_path / "card.md", b"old")

  def full(self: Path, data: bytes) -> int:
    with self.open("wb") as file:
      file.write(data[:1])
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(Path, "write_bytes", full)
  with pytest.raises(UserError, match=r"card\.md: No space left on device; free some space"):
    _files.write(path, b"new")
  assert path.read_bytes() == b"old"
  assert os.listdir(tmp_path) == ["card.md"]


def test_a_file_in_the_way_of_the_directory_is_named(tmp_path: Path) -> None:
  (tmp_path / "plots").write_text("a file")
  with pytest.raises(UserError, match=r"cannot write .*plots/loss\.png"):
    _files.write(tmp_path / "plots" / "loss.png", b"")
