"""Whether a value fits an annotation, told without calling anything.

What cannot be decided (no annotation, one that does not resolve, `Any`, a type variable) fits.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

_UNIONS = (typing.Union, types.UnionType)
_NOTHING: frozenset[Any] = frozenset({Any, object, inspect.Parameter.empty})
_SEQUENCES = (
  collections.abc.Sequence,
  collections.abc.Collection,
  collections.abc.Iterable,
  collections.abc.Container,
)


def of(target: Callable[..., Any]) -> dict[str, Any]:
  """Parameter → annotation and `return` → annotation, strings resolved one by one.

  A class returns itself. Its parameters are those of its fields if it is a dataclass or a named
  tuple, else of `__init__` or `__new__`.
  """
  while isinstance(target, functools.partial):
    target = target.func
  target = inspect.unwrap(target)
  if not inspect.isclass(target):
    if not hasattr(target, "__annotations__"):
      target = type(target).__call__  # of a callable object
    return _resolved(target)
  found: dict[str, Any] = {}
  for base in reversed(target.__mro__):
    fields = vars(base).get("__annotations__", {})  # they mean what the base's own module says
    found |= _each(fields, vars(sys.modules.get(base.__module__, types)))
    if hasattr(base, "__dataclass_fields__"):
      continue
    for method in (vars(base).get("__new__"), vars(base).get("__init__")):
      if method is not None:
        found |= _resolved(inspect.unwrap(getattr(method, "__func__", method)))
  return found | {"return": target}


def _resolved(function: Any) -> dict[str, Any]:
  return _each(getattr(function, "__annotations__", {}), getattr(function, "__globals__", None))


def _each(annotations: Mapping[str, Any], scope: dict[str, Any] | None) -> dict[str, Any]:
  """One by one: one that does not resolve does not hide the others."""
  found = {}
  for name, annotation in annotations.items():
    single = types.SimpleNamespace(__annotations__={name: annotation})
    try:
      found.update(typing.get_type_hints(single, scope))
    except Exception:  # noqa: S112 (an annotation may be any expression)
      continue
  return found


def spell(annotation: Any) -> str:
  """The annotation as one would write it."""
  if annotation is inspect.Parameter.empty:
    return "anything"
  if annotation in (None, types.NoneType):
    return "None"
  args, origin = typing.get_args(annotation), typing.get_origin(annotation)
  if origin in _UNIONS:
    return " | ".join(map(spell, args))
  if origin is typing.Literal:
    return f"Literal[{', '.join(map(repr, args))}]"
  if isinstance(annotation, list):  # the arguments of a Callable
    return f"[{', '.join(map(spell, annotation))}]"
  if annotation is Ellipsis:
    return "..."
  name = getattr(origin or annotation, "__name__", str(annotation)).rpartition(".")[2]
  return f"{name}[{', '.join(map(spell, args))}]" if args else name


def members(annotation: Any) -> tuple[Any, ...]:
  """The alternatives of a union; else the annotation alone; aliases and wrappers taken off."""
  while typing.get_origin(annotation) in (typing.Annotated, typing.Final, typing.ClassVar):
    annotation = typing.get_args(annotation)[0]
  while hasattr(annotation, "__supertype__"):  # NewType
    annotation = annotation.__supertype__
  if typing.get_origin(annotation) in _UNIONS:
    return tuple(m for a in typing.get_args(annotation) for m in members(a))
  if getattr(annotation, "__module__", "") == "dataclasses" and hasattr(annotation, "type"):
    return members(annotation.type)  # InitVar
  return (annotation,)


def undecided(annotation: Any) -> bool:
  """Whether every value fits."""
  if isinstance(annotation, str | typing.TypeVar | typing.ForwardRef):
    return True
  return isinstance(annotation, collections.abc.Hashable) and annotation in _NOTHING


def literal_fits(value: Any, annotation: Any) -> bool:
  """Whether a value that is no container fits one member of a union."""
  if undecided(annotation):
    return True
  if typing.get_origin(annotation) is typing.Literal:
    return any(value == a and type(value) is type(a) for a in typing.get_args(annotation))
  if annotation is None:
    return value is None
  origin = typing.get_origin(annotation) or annotation
  if not isinstance(origin, type):
    return True
  if isinstance(value, str) and origin in _SEQUENCES:
    return False  # a string is a sequence of strings, but nobody who asks for one means it
  return _is_a(type(value), origin)


def container_args(value: Any, annotation: Any) -> tuple[Any, Any] | list[Any] | None:
  """What the items of a list, tuple or dict must fit; None when the container itself does not fit.

  For a dict a pair (keys, values); for the others a list, one annotation an item.
  """
  anything = Any
  origin = typing.get_origin(annotation) or annotation
  args = typing.get_args(annotation)
  if not undecided(annotation):
    if not isinstance(origin, type) or not _is_a(type(value), origin):
      return None
  if isinstance(value, Mapping):
    return (args[0], args[1]) if len(args) == 2 else (anything, anything)
  if origin is tuple and args and args[-1] is not Ellipsis:
    return list(args) if len(args) == len(value) else None
  if hasattr(origin, "_fields"):  # a named tuple is made by calling it
    return None
  return [args[0] if args else anything] * len(value)


def item_annotations(value: Any, annotation: Any) -> list[Any]:
  """What each item of a list, tuple or dict (its values) should be; `Any` where nothing says so."""
  for member in members(annotation):
    args = container_args(value, member)
    if isinstance(args, tuple):
      return [args[1]] * len(value)
    if args is not None:
      return args
  return [Any] * len(value)


def returns_fit(given: Any, annotation: Any) -> bool:
  """Whether what is annotated as `given` may stand where `annotation` is wanted.

  A wider type than the wanted one passes: it may hold the right thing at run time.
  """
  return any(_pair_fits(g, a) for g in members(given) for a in members(annotation))


def callable_fits(annotation: Any) -> bool:
  """Whether a function or class, not called, may stand where this union member is wanted."""
  if undecided(annotation) or annotation is Callable:
    return True
  origin = typing.get_origin(annotation) or annotation
  if not isinstance(origin, type):
    return origin is not typing.Literal and annotation is not None
  return origin in (collections.abc.Callable, type, types.FunctionType) or _calls(origin)


def _pair_fits(given: Any, wanted: Any) -> bool:
  if undecided(given) or undecided(wanted):
    return True
  if typing.get_origin(given) is typing.Literal:
    return any(literal_fits(v, wanted) for v in typing.get_args(given))
  given = types.NoneType if given is None else typing.get_origin(given) or given
  wanted = types.NoneType if wanted is None else typing.get_origin(wanted) or wanted
  if wanted is typing.Literal:
    return given in (str, int, bool)
  if given in (collections.abc.Callable, typing.Callable):
    return callable_fits(wanted)
  if not isinstance(given, type) or not isinstance(wanted, type):
    return True
  return _is_a(given, wanted) or _is_a(wanted, given)


def _is_a(given: type, wanted: type) -> bool:
  """`issubclass`, with Python's numeric tower, and protocols compared by their methods."""
  if wanted in (int, float, complex) and issubclass(given, bool):
    return False
  if wanted is float and issubclass(given, int):
    return True
  if wanted is complex and issubclass(given, int | float):
    return True
  if wanted is collections.abc.Callable:
    return _calls(given)
  if getattr(wanted, "_is_protocol", False):
    methods = [n for b in wanted.__mro__ for n, v in vars(b).items() if _is_method(b, n, v)]
    known = {n for b in given.__mro__ for n in (*vars(b), *vars(b).get("__annotations__", {}))}
    return all(m in known and getattr(given, m, m) is not None for m in methods)
  try:
    return issubclass(given, wanted)
  except TypeError:
    return True


def _calls(kind: type) -> bool:
  return any("__call__" in vars(base) for base in kind.__mro__)


def _is_method(base: type, name: str, value: Any) -> bool:
  is_own = getattr(base, "_is_protocol", False) and base is not typing.Protocol
  ours = not name.startswith("__") or name in ("__call__", "__iter__", "__next__", "__len__")
  return is_own and ours and inspect.isfunction(value)
