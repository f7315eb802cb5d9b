from __future__ import annotations

from collections.abc import Iterator

import pytest

from mtm.data._tensorflow import seqio
from tests.data import toy


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[None]:
  """Tasks that a test registers go away with it, and so do their tokens."""
  monkeypatch.setenv("MTM_CACHE", str(tmp_path / "mtm_cache"))
  with toy.registered():
    yield


@pytest.fixture
def three(tasks: None) -> str:
  """A mixture of three tasks whose documents are short, middling and long."""
  for name, count, low, high in (("toy_a", 20, 1, 9), ("toy_b", 15, 10, 30), ("toy_c", 9, 40, 90)):
    toy.add_task(
      name, toy.documents(count, low, high, count), toy.documents(count, low, high, count + 1)
    )
  seqio().MixtureRegistry.add("toy_three", [("toy_a", 5.0), ("toy_b", 2.5), ("toy_c", 1.0)])
  return "toy_three"
