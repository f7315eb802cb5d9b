"""Whether a value of the config fits an annotation: macros and references are followed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mtm.config import hints
from mtm.config.program import Program
from mtm.config.source import FLAGS, REQUIRED, Macro, Reference, Statement, render
from mtm.errors import nearest


@dataclasses.dataclass(frozen=True)
class Misfit:
  """The innermost value that is wrong.

  Attributes:
    value: the value.
    expected: the annotation it does not fit.
    statement: where the value stands: perhaps the definition of a macro.
    path: where inside the statement's value, such as `['targets']`.
  """

  value: Any
  expected: Any
  statement: Statement
  path: str = ""


def misfit(
  program: Program, value: Any, annotation: Any, statement: Statement, path: str = ""
) -> Misfit | None:
  """What does not fit `annotation`, or None. `%gin.REQUIRED` fits: it is told as missing."""
  members = hints.members(annotation)
  if value == REQUIRED or any(map(hints.undecided, members)):
    return None
  if isinstance(value, Macro):
    inner = program.winner(program.macros[value.name])
    return misfit(program, inner.value, annotation, inner)
  if isinstance(value, list | tuple | Mapping):
    return _container(program, value, annotation, statement, path)
  if isinstance(value, Reference):
    target = program.target(value, statement)
    if value.evaluate:
      fits = hints.returns_fit(target.hints.get("return", Any), annotation)
    else:
      fits = any(map(hints.callable_fits, members))
  else:
    fits = any(hints.literal_fits(value, m) for m in members)
  return None if fits else Misfit(value, annotation, statement, path)


def _container(
  program: Program, value: Any, annotation: Any, statement: Statement, path: str
) -> Misfit | None:
  wrong: list[Misfit] = []
  for member in hints.members(annotation):
    args = hints.container_args(value, member)
    if args is None:
      continue
    if isinstance(args, tuple):
      items = [(k, args[0], f"{path} key {k!r}") for k in value]
      items += [(v, args[1], f"{path}[{render(k)}]") for k, v in value.items()]
    else:
      items = [(v, a, f"{path}[{i}]") for i, (v, a) in enumerate(zip(value, args, strict=True))]
    bad = [found for v, a, at in items if (found := misfit(program, v, a, statement, at))]
    if not bad:
      return None
    wrong.append(bad[0])
  return wrong[0] if len(wrong) == 1 else Misfit(value, annotation, statement, path)


def hint(program: Program, found: Misfit) -> str:
  """How to put it right, where that can be told."""
  value, members = found.value, hints.members(found.expected)
  if isinstance(value, Reference):
    target = program.target(value, found.statement)
    returned = target.hints.get("return", Any)
    if not value.evaluate and hints.returns_fit(returned, found.expected):
      return "; add () to call it"
    if value.evaluate and any(map(hints.callable_fits, members)):
      return f", and this call returns {hints.spell(returned)}; leave out () to pass it on"
    return f", and this call returns {hints.spell(returned)}" if value.evaluate else ""
  choices = [c for m in members for c in getattr(m, "__args__", ()) if isinstance(c, str)]
  if isinstance(value, str) and choices:
    return nearest(value, choices)
  if str in members and isinstance(value, int | float):
    quoted = f"'{value}'"
    if found.statement.file == FLAGS and not found.path:
      return f'; write --gin.{name(found.statement)}="{quoted}"'
    return f"; write {quoted}"
  plain = (str, int, float, bool, type(None))
  if isinstance(value, str) and not any(m in plain for m in members):
    return "; a reference starts with @"
  return ""


def name(statement: Statement) -> str:
  """The left-hand side of a statement."""
  left = "/".join([*statement.scope, statement.selector])
  return f"{left}.{statement.parameter}" if statement.parameter else left
