"""Refuses configs that would not do what they say, before anything is built.

From the function that will be called, all that it reaches is followed, by the rules of gin: a call
in scope `a/b` sees the bindings of no scope, `a` and `a/b`; `@c/f()` is called in scope `c`
whatever the scope around it; the value of a macro is made in the scope of the macro's name. In one
point gin is not followed: a function that is passed on (`@f`) keeps the scope of its consumer.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping
from typing import Any

from mtm.config import fit, hints
from mtm.config.names import Configurable
from mtm.config.program import Key, Program
from mtm.config.source import FLAGS, REQUIRED, Macro, Reference, Scope, Statement, render, walk
from mtm.errors import UserError, nearest

Call = tuple[Configurable, Scope]


@dataclasses.dataclass
class Reached:
  """What a run uses.

  Attributes:
    calls: every function and scope that may be called, with whether the config itself calls it.
    passed: the functions that are passed on uncalled somewhere.
    keys: all bindings that such a call sees.
    macros: every macro whose value is used, with the annotation it must fit first.
    missing: name → what it should be and where.
    wrong: values that do not fit, told to the user.
  """

  calls: dict[Call, bool] = dataclasses.field(default_factory=dict)
  passed: set[Configurable] = dataclasses.field(default_factory=set)
  keys: dict[Key, None] = dataclasses.field(default_factory=dict)
  macros: dict[str, Any] = dataclasses.field(default_factory=dict)
  missing: dict[str, str] = dataclasses.field(default_factory=dict)
  wrong: list[str] = dataclasses.field(default_factory=list)

  def __or__(self, other: Reached) -> Reached:
    pairs = zip(vars(self).values(), vars(other).values(), strict=True)
    return Reached(*(a + b if isinstance(a, list) else a | b for a, b in pairs))


def reach(program: Program, root: Configurable) -> Reached:
  """What calling `root` reaches.

  Raises:
    UserError: a value needs itself.
  """
  walker = _Walker(program)
  walker.call(root, (), evaluate=True)
  return walker.reached


def reach_macro(program: Program, name: str) -> Reached:
  """What making the value of a macro reaches.

  Raises:
    UserError: there is no such macro, or a value needs itself.
  """
  if name not in program.macros:
    raise UserError(f"the gin files define no macro {name!r}{nearest(name, program.macros)}")
  walker = _Walker(program)
  walker.value(Macro(name), Any, program.winner(program.macros[name]), (), ())
  return walker.reached


def refuse_unused(program: Program, reached: Reached) -> None:
  """Raises UserError for what is said and not reached, and for files that are given in vain.

  Forgiven is what a later layer replaces (see `_overridden`), and what mtm's own files say beyond
  what a run needs, such as a family's objective when it generates: no user said it.
  """
  overridden = _overridden(program, reached)
  unused: list[Statement] = []
  for name, definitions in program.macros.items():
    if name not in reached.macros:
      unused += [s for s in definitions if s.order >= overridden.get(name, -1)]
  for key, bindings in program.bindings.items():
    if key not in reached.keys:
      unused += [s for s in bindings if s.order >= overridden.get(key, -1)]
  unused = [s for s in unused if not s.shipped]
  if unused:
    raise UserError(_tell_unused(program, reached, _cause(program, unused)))
  _refuse_idle_files(program, reached)


def _cause(program: Program, unused: list[Statement]) -> Statement:
  """One that no other unused statement refers to; of those the one nearest to the user."""
  macros, targets = set(), set()
  for statement in unused:
    for item in walk(statement.value):
      if isinstance(item, Macro):
        macros.add(item.name)
      else:
        targets.add(program.target(item, statement))
  causes = [
    s
    for s in unused
    if (program.owner(s) not in targets if s.parameter else s.selector not in macros)
  ]
  return max(causes or unused, key=lambda s: s.order)


def _refuse_idle_files(program: Program, reached: Reached) -> None:
  """A file that says something, but nothing that counts: a later file replaces or no call sees it.

  That flags replace it is the user's wish.
  """
  used = [program.macros[name] for name in reached.macros]
  used += [program.bindings[key] for key in reached.keys]
  by_files = [[s for s in statements if s.file != FLAGS] for statements in used]
  heard = {s.given for statements in by_files for s in statements}
  count = {program.winner(statements).given for statements in by_files if statements}
  said = {s.given for group in (program.macros, program.bindings) for ss in group.values()
          for s in ss}  # fmt: skip
  for index in sorted(said - count - {-1}):
    why = "this run uses nothing of it"
    if index in heard:
      why = "later files replace all that it says; give it after them"
    raise UserError(f"--gin_file={program.files[index]}: {why}")


def refuse_wrong(reached: Reached) -> None:
  """Raises UserError for the first value that does not fit."""
  if reached.wrong:
    raise UserError(reached.wrong[0])


def refuse_missing(reached: Reached) -> None:
  """Raises UserError for all values that are missing, together."""
  if reached.missing:
    told = ", ".join(reached.missing.values())
    flags = " ".join(f"--gin.{name}=..." for name in reached.missing)
    raise UserError(f"{told} {'is' if len(reached.missing) == 1 else 'are'} missing: give {flags}")


class _Walker:
  """Follows values from a root."""

  def __init__(self, program: Program) -> None:
    self.program = program
    self.reached = Reached()
    self._within: list[Any] = []  # calls and macros being made, to find circles

  def call(self, configurable: Configurable, scope: Scope, evaluate: bool) -> None:
    """A call that gin makes (`evaluate`), or that somebody may make later."""
    call = (configurable, scope)
    if evaluate and call in self._within:
      raise UserError(f"@{configurable.name}() needs itself to be called")
    if not evaluate:
      self.reached.passed.add(configurable)
    known = self.reached.calls.get(call)
    if known is not None and known >= evaluate:
      return
    self.reached.calls[call] = evaluate
    self.reached.keys.update(dict.fromkeys(self.program.keys(configurable, scope)))
    bound = self.program.bound(configurable, scope)
    if evaluate:
      self._missing_parameters(configurable, bound)
    self._within.append(call if evaluate else None)
    for parameter, statement in bound.items():
      annotation = configurable.hints.get(parameter, Any)
      self._fits(configurable, parameter, annotation, statement)
      if statement.value == REQUIRED:
        self._missing(fit.name(statement), annotation, statement)
      self.value(statement.value, annotation, statement, scope, scope)
    self._within.pop()

  def value(
    self, value: Any, annotation: Any, statement: Statement, scope: Scope, caller: Scope
  ) -> None:
    """A value made in `scope`, for a call in scope `caller`; it stands in `statement`."""
    if isinstance(value, Macro) and value != REQUIRED:
      if value in self._within:
        raise UserError(f"{statement.place}: the macro {value.name} is defined by itself")
      inner = self.program.winner(self.program.macros[value.name])
      self.reached.macros.setdefault(value.name, annotation)
      if inner.value == REQUIRED:
        self._missing(value.name, annotation, statement)
      self._within.append(value)
      self.value(inner.value, annotation, inner, value.scope, caller)
      self._within.pop()
    elif isinstance(value, Reference):
      target = self.program.target(value, statement)
      around = scope if value.evaluate else caller
      self.call(target, value.scope or around, value.evaluate)
    elif isinstance(value, list | tuple | Mapping):
      items = list(value.values()) if isinstance(value, Mapping) else value
      wanted = hints.item_annotations(value, annotation)
      for item, each in zip(items, wanted, strict=True):
        if item == REQUIRED:
          self._missing(fit.name(statement), each, statement)
        self.value(item, each, statement, scope, caller)

  def _fits(
    self, configurable: Configurable, parameter: str, annotation: Any, statement: Statement
  ) -> None:
    declared = configurable.named.get(parameter)
    if declared is not None and _same(statement.value, declared.default):
      return  # `x: int = None` takes None
    found = fit.misfit(self.program, statement.value, annotation, statement)
    if found is None:
      return
    where = "" if found.statement is statement else f" (for {fit.name(statement)},"
    self.reached.wrong.append(
      f"{found.statement.place}: {fit.name(found.statement)}{found.path} must be"
      f" {hints.spell(found.expected)}, not {render(found.value)}"
      f"{fit.hint(self.program, found)}" + (where and f"{where} {statement.place})")
    )

  def _missing(self, name: str, annotation: Any, statement: Statement) -> None:
    wanted = hints.spell(annotation)
    self.reached.missing.setdefault(name, f"{name} ({wanted}; {statement.place} needs it)")

  def _missing_parameters(self, configurable: Configurable, bound: Mapping[str, Statement]) -> None:
    for name, parameter in configurable.named.items():
      if parameter.default is inspect.Parameter.empty and name not in bound:
        key = f"{configurable.short}.{name}"
        wanted = hints.spell(configurable.hints.get(name, Any))
        self.reached.missing.setdefault(key, f"{key} ({wanted})")


def _same(value: Any, default: Any) -> bool:
  return type(value) is type(default) and value == default


def _tell_unused(program: Program, reached: Reached, statement: Statement) -> str:
  said = f"{fit.name(statement)} = {render(statement.value)}"
  said = statement.place if statement.order == math.inf else f"{statement.place}: {said}"
  if not statement.parameter:
    used = set(reached.macros) | {n for n in reached.missing if n in program.macros}
    return (
      f"{said}: this run uses no macro {fit.name(statement)}{nearest(statement.selector, used)}"
    )
  configurable = program.owner(statement)
  scopes = ["/".join(scope) for called, scope in reached.calls if called is configurable]
  if scopes:
    wrong = "/".join(statement.scope)
    near = nearest(wrong, filter(None, scopes)) or "; write it without a scope"
    return f"{said}: {configurable.name} is not called in scope {wrong!r}{near}"
  near = nearest(configurable.name, {called.name for called, _ in reached.calls})
  return f"{said}: this run does not call {configurable.name}{near}"


def _overridden(program: Program, reached: Reached) -> dict[Any, float]:
  """Macros and keys that only values refer to which a later layer replaced: until which order.

  A layer may replace a whole part of the layers below, `MODEL = @llama()` over `MODEL = @gpt2()`:
  then what they said about the old part is not the user's mistake; saying it afterwards is.
  """
  limits: dict[Any, float] = {}
  todo: list[tuple[Any, Statement, Scope, float]] = []

  def lost(statements: list[Statement], scope: Scope, limit: float | None = None) -> None:
    winner = program.winner(statements)
    for s in statements:
      if limit is not None or s is not winner:
        todo.append((s.value, s, scope, winner.order if limit is None else limit))

  for name in reached.macros:
    lost(program.macros[name], Macro(name).scope)
  for configurable, scope in reached.calls:
    bound = program.bound(configurable, scope)
    for key in program.keys(configurable, scope):
      bindings = program.bindings[key]
      narrower = bound[key[2]] is not program.winner(bindings)  # wins, wherever it stands
      lost(bindings, scope, math.inf if narrower else None)
  while todo:
    value, statement, scope, limit = todo.pop()
    for item in walk(value):
      if isinstance(item, Macro):
        if item.name in program.macros and limits.get(item.name, -1) < limit:
          limits[item.name] = limit
          lost(program.macros[item.name], item.scope, limit)
      else:
        target = program.target(item, statement)
        for key in program.keys(target, item.scope or scope):
          if limits.get(key, -1) < limit:
            limits[key] = limit
            lost(program.bindings[key], item.scope or scope, limit)
  return limits
