"""What the tests of mtm.config share: a program in miniature and its gin files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import gin
from mtm import config
from mtm.errors import UserError
from tests.fixtures import gin_roots

GIN = Path(__file__).parents[1] / "fixtures" / "gin"
BOTH = ("model.gin", "run.gin")
GIVEN = ("TRAIN_STEPS=100", "MODEL_DIR=/tmp/x")
HEADER = "from __gin__ import dynamic_registration\nfrom tests.fixtures import gin_roots\n"


def load(*bindings: str, files: Sequence[str] = BOTH, given: Sequence[str] = GIVEN) -> Any:
  """The config of a training run."""
  return config.load(gin_roots.train, files, (*given, *bindings), [str(GIN)])


def refused(*bindings: str, **kwargs: Any) -> str:
  """The one sentence with which a config is refused; nothing was built before."""
  with pytest.raises(UserError) as e:
    load(*bindings, **kwargs)
  assert gin_roots.BUILT == []
  assert "\n" not in str(e.value)
  return str(e.value)


def place(file: str, statement: str) -> str:
  """`file:line` of a statement, found by reading the file as text."""
  lines = Path(file).read_text().splitlines()
  return f"{file}:{1 + next(i for i, line in enumerate(lines) if line.strip() == statement)}"


def in_fixture(name: str, statement: str) -> str:
  """`place` of a statement of a fixture."""
  return place(f"tests/fixtures/gin/{name}", statement)


def with_gin(text: str, use: Callable[[Any], Any] = lambda given: given) -> Any:
  """What gin itself makes of a config; `use` is called while gin knows it."""
  gin.clear_config()
  with gin.config.interactive_mode():
    gin.parse_config(text)
  try:
    return use(gin.get_configurable(gin_roots.train)())
  finally:
    gin.clear_config()
