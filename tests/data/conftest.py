from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.data import toy


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[None]:
  """Tasks that a test registers go away with it, and so do their tokens."""
  monkeypatch.setenv("MTM_CACHE", str(tmp_path / "mtm_cache"))
  with toy.registered():
    yield
