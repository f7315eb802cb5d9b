"""Parts hold to the strictest arithmetic: no silent broadcast over a new axis, no silent dtype."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_arithmetic() -> Iterator[None]:
  """A rank or dtype that is promoted in silence is an error here."""
  with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
    yield
