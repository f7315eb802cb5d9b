"""Variant packages expose their variants by discovery: nobody edits an `__init__`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any


def modules(package: str) -> Iterator[ModuleType]:
  """Every variant module of `package`: those whose name does not start with an underscore."""
  path = importlib.import_module(package).__path__
  for info in sorted(pkgutil.iter_modules(path), key=lambda m: m.name):
    if not info.name.startswith("_"):
      yield importlib.import_module(f"{package}.{info.name}")


def lazy_attributes(package: str) -> Callable[[str], Any]:
  """A module `__getattr__` that finds public classes of `package`'s variant modules by name."""

  def getattribute(name: str) -> Any:
    if not name.startswith("__"):
      for module in modules(package):
        found = vars(module).get(name)
        if getattr(found, "__module__", None) == module.__name__:
          return found
    raise AttributeError(f"{package} has no variant {name!r}")

  return getattribute
