"""What the names of a gin file mean: imports, functions and classes, their parameters."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any

from mtm.config import hints
from mtm.config.source import FLAGS, Import
from mtm.errors import UserError, nearest


@dataclasses.dataclass(frozen=True, eq=False)
class Configurable:
  """A function or class that gin may call; there is one of these for each.

  Attributes:
    target: the function or class.
    module, path: where it was found first, such as `mtm.families.gpt2`, `gpt2`.
  """

  target: Callable[..., Any]
  module: str
  path: str

  @property
  def name(self) -> str:
    """Its full name."""
    return f"{self.module}.{self.path}"

  @property
  def short(self) -> str:
    """How a file that imports its module calls it, and the command line."""
    return f"{self.module.rpartition('.')[2]}.{self.path}"

  @functools.cached_property
  def parameters(self) -> Mapping[str, inspect.Parameter] | None:
    """All parameters, in order; None when Python cannot tell, as for some written in C."""
    try:
      return inspect.signature(self.target).parameters
    except (TypeError, ValueError):
      return None

  @property
  def open(self) -> bool:
    """Whether any parameter name may be right."""
    if self.parameters is None:
      return True
    return any(p.kind is p.VAR_KEYWORD for p in self.parameters.values())

  @functools.cached_property
  def named(self) -> Mapping[str, inspect.Parameter]:
    """The parameters that can be given by name."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in (self.parameters or {}).items() if p.kind in by_name}

  @functools.cached_property
  def hints(self) -> Mapping[str, Any]:
    """Parameter → annotation, and `return`; only those that can be resolved."""
    return hints.of(self.target)


class Names:
  """The imports of every file, and the configurables found so far."""

  def __init__(self) -> None:
    self.modules: list[str] = []  # every imported module, in order
    self._tables: dict[str, dict[str, Any]] = {FLAGS: {}}  # file → bound name → module
    self._known: dict[Any, Configurable] = {}

  @property
  def known(self) -> list[Configurable]:
    """Every configurable found so far, in order."""
    return list(self._known.values())

  def add(self, statement: Import) -> None:
    """Imports a module.

    Raises:
      UserError: there is no such module, or it fails.
    """
    module = _import(statement.module, statement.place)
    if statement.module not in self.modules:
      self.modules.append(statement.module)
    bound = sys.modules[statement.bound] if statement.top else module
    self._tables.setdefault(statement.file, {})[statement.bound] = bound
    self._tables[FLAGS].setdefault(statement.bound, bound)

  def of(self, target: Callable[..., Any]) -> Configurable:
    """The configurable of a Python function or class."""
    return self._register(target, target.__module__, target.__qualname__)

  def find(self, selector: str, file: str, place: str) -> Configurable:
    """What `selector` means in `file`.

    On the command line it may also be the end of the name of anything that the files use, or a full
    import path.

    Raises:
      UserError: it means nothing, or nothing that can be called.
    """
    table = self._tables.get(file, {})
    first, *rest = selector.split(".")
    found: Configurable | str = f"{first!r} is not imported there"
    if first in table:
      found = self._follow(table[first], rest, selector)
    if isinstance(found, str) and file == FLAGS:
      found = self._by_ending(selector) or self._by_path(selector) or found
    if isinstance(found, Configurable):
      return found
    if first not in table and file != FLAGS:
      found += self._import_hint(first, table)
    raise UserError(f"{place}: unknown name {selector!r}: {found}")

  def _follow(self, module: Any, rest: list[str], selector: str) -> Configurable | str:
    """The attribute of an attribute ... of a module, or why there is none."""
    value, home = module, module
    path: list[str] = []
    for attribute in rest:
      inner = getattr(value, attribute, None)
      if inner is None and isinstance(value, types.ModuleType):
        inner = _submodule(value, attribute)
      if inner is None:
        return f"{_spell(value)} has no {attribute!r}{nearest(attribute, _callables(value))}"
      value, path = inner, [*path, attribute]
      if isinstance(value, types.ModuleType) and sys.modules.get(value.__name__) is value:
        home, path = value, []
    if isinstance(value, types.ModuleType) or not callable(value):
      what = "a module" if isinstance(value, types.ModuleType) else "no function or class"
      inside = nearest(path[-1] if path else selector.split(".")[-1], _callables(value))
      return f"it is {what}{inside}"
    return self._register(value, home.__name__, ".".join(path))

  def _register(self, target: Any, module: str, path: str) -> Configurable:
    key = target if getattr(type(target), "__hash__", None) else id(target)
    return self._known.setdefault(key, Configurable(target, module, path))

  def _by_ending(self, selector: str) -> Configurable | None:
    """The one known configurable whose full name ends so."""
    ends = [c for c in self.known if c.name.endswith("." + selector)]
    return ends[0] if len(ends) == 1 else None

  def _by_path(self, selector: str) -> Configurable | None:
    """What a full import path names."""
    parts = selector.split(".")
    for cut in range(len(parts) - 1, 0, -1):
      name = ".".join(parts[:cut])
      try:
        module = importlib.import_module(name)
      except ImportError:
        continue
      found = self._follow(module, parts[cut:], selector)
      if isinstance(found, Configurable):
        return found
    return None

  def _import_hint(self, first: str, table: Mapping[str, Any]) -> str:
    """Which import is missing, or the nearest name that is imported."""
    for module in self.modules:
      parent, _, last = module.rpartition(".")
      if last == first:
        return f"; add `from {parent} import {last}`" if parent else f"; add `import {last}`"
    return nearest(first, table) or "; imports stand above: from package import module"


def _import(name: str, place: str) -> types.ModuleType:
  try:
    return importlib.import_module(name)
  except Exception as e:
    parts = name.split(".")
    absent = getattr(e, "name", None)
    prefixes = [".".join(parts[:i]) for i in range(1, len(parts) + 1)]
    if isinstance(e, ModuleNotFoundError) and absent in prefixes:
      parent, _, last = str(absent).rpartition(".")
      near = nearest(last, _submodules(parent)) if parent else ""
      raise UserError(f"{place}: there is no module {absent!r}{near}") from e
    frame = traceback.extract_tb(e.__traceback__)[-1]
    why = f"{type(e).__name__}: {e} ({frame.filename}:{frame.lineno})"
    raise UserError(f"{place}: importing {name} failed: {why}") from e


def _submodules(package: str) -> list[str]:
  path = getattr(sys.modules.get(package), "__path__", None)
  return [info.name for info in pkgutil.iter_modules(path)] if path else []


def _submodule(package: types.ModuleType, name: str) -> types.ModuleType | None:
  """A submodule that nobody has imported yet."""
  if name not in _submodules(package.__name__):
    return None
  return importlib.import_module(f"{package.__name__}.{name}")


def _callables(value: Any) -> list[str]:
  """Public functions and classes; of a module those that it does not import from elsewhere."""
  names = [
    name
    for name, item in getattr(value, "__dict__", {}).items()
    if callable(item) and name[0] != "_"
  ]
  if not isinstance(value, types.ModuleType):
    return names
  own = [n for n in names if getattr(getattr(value, n), "__module__", "") == value.__name__]
  return own or names


def _spell(value: Any) -> str:
  return str(getattr(value, "__name__", value))
