"""Variants are found by being there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mtm.discovery import lazy_attributes, modules


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
  home = tmp_path / "zoo_of_tests"
  home.mkdir()
  (home / "__init__.py").write_text("")
  (home / "_base.py").write_text("class Hidden: pass\n")
  (home / "lion.py").write_text("from os.path import join\nclass Lion: pass\nEXAMPLES = [Lion()]\n")
  (home / "ape.py").write_text("class Ape: pass\nEXAMPLES = []\n")
  monkeypatch.syspath_prepend(str(tmp_path))
  yield "zoo_of_tests"
  for name in [n for n in sys.modules if n.startswith("zoo_of_tests")]:
    del sys.modules[name]


def test_modules_are_in_order_and_private_ones_are_not_variants(package: str) -> None:
  assert [m.__name__ for m in modules(package)] == [f"{package}.ape", f"{package}.lion"]


def test_classes_are_found_by_name(package: str) -> None:
  find = lazy_attributes(package)
  assert find("Lion").__name__ == "Lion"


@pytest.mark.parametrize("name", ["Hidden", "join", "Tiger", "EXAMPLES", "__wrapped__"])
def test_nothing_else_is_found(package: str, name: str) -> None:
  with pytest.raises(AttributeError, match=f"has no variant '{name}'"):
    lazy_attributes(package)(name)
