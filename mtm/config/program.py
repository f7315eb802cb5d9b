"""A config with its names resolved: which value wins for each macro and parameter."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

from mtm.config.names import Configurable, Names
from mtm.config.source import FLAGS, REQUIRED, Macro, Reference, Scope, Source, Statement, walk
from mtm.errors import UserError, nearest

Key = tuple[Scope, Configurable, str]  # scope/configurable.parameter


@dataclasses.dataclass(frozen=True)
class Program:
  """Everything that was said, in reading order; the last word wins.

  Attributes:
    macros: name → its definitions.
    bindings: what is bound → the bindings.
    names: what selectors mean.
    files: the gin files that were asked for.
  """

  macros: Mapping[str, list[Statement]]
  bindings: Mapping[Key, list[Statement]]
  names: Names
  files: Sequence[str] = ()

  def winner(self, statements: list[Statement]) -> Statement:
    """The one that counts: the last that is not `%gin.REQUIRED`, which never replaces a value."""
    given = [s for s in statements if s.value != REQUIRED]
    return (given or statements)[-1]

  def target(self, reference: Reference, statement: Statement) -> Configurable:
    """What a reference inside the statement's value means."""
    return self.names.find(reference.selector, statement.file, statement.place)

  def owner(self, statement: Statement) -> Configurable:
    """What a binding binds a parameter of."""
    return self.names.find(statement.selector, statement.file, statement.place)

  def bound(self, configurable: Configurable, scope: Scope) -> dict[str, Statement]:
    """Parameter → winning binding for a call in `scope`; the narrowest scope wins, as in gin."""
    found: dict[str, Statement] = {}
    for cut in range(len(scope) + 1):
      for key in self._by_call.get((scope[:cut], configurable), ()):
        found[key[2]] = self.winner(self.bindings[key])
    return found

  def keys(self, configurable: Configurable, scope: Scope) -> Iterator[Key]:
    """The keys of all bindings that a call in `scope` sees, also those that do not win."""
    for cut in range(len(scope) + 1):
      yield from self._by_call.get((scope[:cut], configurable), ())

  @functools.cached_property
  def _by_call(self) -> Mapping[tuple[Scope, Configurable], list[Key]]:
    index: dict[tuple[Scope, Configurable], list[Key]] = {}
    for key in self.bindings:
      index.setdefault(key[:2], []).append(key)
    return index


def resolve(source: Source) -> Program:
  """Imports what the source imports, and finds what its names mean.

  Raises:
    UserError: a module, function, parameter or macro that does not exist.
  """
  macros: dict[str, list[Statement]] = {}
  for statement in source.statements:
    if not statement.parameter:
      macros.setdefault(statement.selector, []).append(statement)
  names = Names()
  bindings: dict[Key, list[Statement]] = {}
  program = Program(macros, bindings, names, source.files)
  _check_macros(program, source)
  for imported in source.imports:
    names.add(imported)
  # Files first: flags may shorten names that the files use.
  for statement in sorted(source.statements, key=lambda s: s.file == FLAGS):
    for item in walk(statement.value):
      if isinstance(item, Reference):
        program.target(item, statement)
    if statement.parameter:
      configurable = program.owner(statement)
      _check_parameter(configurable, statement)
      key = (statement.scope, configurable, statement.parameter)
      bindings.setdefault(key, []).append(statement)
  return program


def _check_macros(program: Program, source: Source) -> None:
  """Every macro that counts is defined. Needs no import, so a typo is told at once."""
  ends = [program.winner(definitions) for definitions in program.macros.values()]
  ends += _last_bindings(program, source)
  for statement in ends:
    for item in walk(statement.value):
      if isinstance(item, Macro) and item != REQUIRED and item.name not in program.macros:
        near = nearest(item.name, program.macros)
        raise UserError(
          f"{statement.place}: nothing defines the macro {item.name!r}{near}"
          f" (or give it: --gin.{item.name}=...)"
        )


def _last_bindings(program: Program, source: Source) -> list[Statement]:
  groups: dict[tuple[Scope, str, str], list[Statement]] = {}
  for s in source.statements:
    if s.parameter:
      groups.setdefault((s.scope, s.selector, s.parameter), []).append(s)
  return [program.winner(group) for group in groups.values()]


def _check_parameter(configurable: Configurable, statement: Statement) -> None:
  if configurable.open or statement.parameter in configurable.named:
    return
  raise UserError(
    f"{statement.place}: {configurable.name} has no parameter {statement.parameter!r}"
    f"{nearest(statement.parameter, configurable.named)}"
  )
