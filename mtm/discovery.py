"""Variant packages expose their variants by discovery: nobody edits an `__init__`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from mtm.errors import UserError


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


def of_user(module: str, called: str = "module") -> ModuleType:
  """A user's module, which may lie in the current directory.

  Args:
    module: its import path.
    called: the setting that names it, for the error.

  Raises:
    UserError: there is no such module.
  """
  if "" not in sys.path:
    sys.path.insert(0, "")
  try:
    return importlib.import_module(module)
  except ModuleNotFoundError as e:
    if e.name and (module == e.name or module.startswith(f"{e.name}.")):
      raise UserError(
        f"{called} {module!r}: no module {e.name!r} in the current directory or among the installed"
        " packages"
      ) from None
    raise
