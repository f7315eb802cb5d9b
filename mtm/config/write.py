"""Gin text for a call made from Python, so that a model found elsewhere becomes a gin file."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mtm.errors import UserError

PUBLIC = ("jax.nn", "jax.numpy")  # where functions of private modules are found


def call(macro: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
  """`MACRO = @module.function()` and a binding for every argument that is not the default.

  Arguments are numbers, texts, booleans, None, functions that a module names, instances of a
  dataclass with its defaults, and tuples of such.

  Raises:
    UserError: an argument that is none of these.
  """
  defaults = inspect.signature(function).parameters
  module, name = function.__module__, function.__qualname__
  short = module.rpartition(".")[2]
  lines, imports = [], {module}
  for key, value in arguments.items():
    default = defaults[key].default
    if value is default or (type(value) is type(default) and value == default):
      continue
    text, needed = _written(value, f"{name}.{key}")
    imports |= needed
    lines.append(f"{short}.{name}.{key} = {text}")
  heads = [f"from {m.rpartition('.')[0]} import {m.rpartition('.')[2]}" for m in sorted(imports)]
  parts = [
    ["from __gin__ import dynamic_registration"], heads, [f"{macro} = @{short}.{name}()"], lines,
  ]  # fmt: skip
  return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


@functools.singledispatch
def _written(value: Any, where: str) -> tuple[str, set[str]]:
  """The gin text of a value, and the modules that it needs."""
  name = getattr(value, "__name__", "")
  homes = [getattr(value, "__module__", None), *PUBLIC]
  for module in homes if name else ():
    if module and getattr(importlib.import_module(module), name, None) is value:
      return f"@{module.rpartition('.')[2]}.{name}", {module}
  if dataclasses.is_dataclass(value) and value == _plainest(type(value)):
    text, needed = _written(type(value), where)
    return f"{text}()", needed
  raise UserError(f"{where} = {value!r} cannot be written as gin: name it in a module of your own")


def _plainest(kind: type) -> Any:
  """An instance with defaults only; None where a field has none."""
  fields = dataclasses.fields(kind)
  given = (dataclasses.MISSING, dataclasses.MISSING)
  bare = any((x.default, x.default_factory) == given for x in fields if x.init)
  return None if bare else kind()


@_written.register(bool)
@_written.register(int)
@_written.register(float)
@_written.register(str)
@_written.register(type(None))
def _plain(value: Any, where: str) -> tuple[str, set[str]]:
  del where
  return repr(value), set()


@_written.register(tuple)
@_written.register(list)
def _sequence(value: Any, where: str) -> tuple[str, set[str]]:
  items = [_written(item, where) for item in value]
  inner = ", ".join(text for text, _ in items) + ("," if len(items) == 1 else "")
  return f"({inner})", set().union(*(needed for _, needed in items))
