"""Every family on random configs, sizes and padding; theirs decides each time."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
from tests.parity import harness  # noqa: E402

pytestmark = pytest.mark.parity

SEEDS = 2


def told(name: str) -> dict[str, Any]:
  """The `DRAWS` or `CASES` of all modules of families."""
  found: dict[str, Any] = {}
  for path in sorted(Path(__file__).parent.glob("test_*.py")):
    if path != Path(__file__):
      found |= getattr(importlib.import_module(f"tests.parity.{path.stem}"), name, {})
  return found


DRAWS = told("DRAWS")


@pytest.mark.slow  # each family's fixed cases are quick
@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("name", list(DRAWS))
def test_drawn_configs(name: str, seed: int, tmp_path: Path) -> None:
  case = DRAWS[name](np.random.default_rng([seed, *name.encode()]))
  # Loops over tokens compile longest: one seed generates.
  case = dataclasses.replace(case, generates=case.generates and seed == 0)
  harness.check(case, tmp_path)


def test_every_published_model_is_compared() -> None:
  """No family is forgotten."""
  from mtm.interop import hf

  rng = np.random.default_rng(0)
  cases = [*told("CASES").values(), *(draw(rng) for draw in DRAWS.values())]
  compared = {(made.config.model_type, type(made).__name__) for made in (c.make() for c in cases)}
  kinds = {(o.model_type, o.architectures[0]) for every in hf.published().values() for o in every}
  assert kinds - compared == set()
