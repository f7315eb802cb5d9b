"""Tests of mtm.config stand in the repository, and see what was built in the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.config import cases
from tests.fixtures import gin_roots


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
  """Places are told relative to the working directory."""
  monkeypatch.chdir(cases.GIN.parents[2])
  gin_roots.BUILT.clear()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
  """Writes a gin file and returns its path."""

  def write(text: str, name: str = "mine.gin") -> str:
    path = tmp_path / name
    path.write_text(cases.HEADER + text)
    return str(path)

  return write
