"""Contracts are about values, not speed: a compiler that tries less hard halves their time."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def quick_compiler() -> Iterator[None]:
  """Turns most of XLA's optimisations off."""
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)
