"""The resolved config as gin text: no includes, only what the run uses, in an order of its own.

Reading the text gives the same text again, and the same run. Macros stay macros, so that it can be
run again with `--gin.TRAIN_STEPS=...`; defaults of the functions that gin calls are written out, so
that a later version with other defaults still repeats the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mtm.config.check import Reached
from mtm.config.names import Configurable
from mtm.config.program import Key, Program
from mtm.config.source import Reference, Statement, render, walk

WIDTH = 100  # a longer list, tuple or dict gets a line for each item


Default = tuple[Configurable, str]  # whose, and of which parameter


def of_run(program: Program, reached: Reached) -> str:
  """The config of a run: what it uses, and every import, for what modules register."""
  return _of_reached(program, reached, program.names.modules)


def of_part(program: Program, reached: Reached) -> str:
  """A part of a config, such as the model: what it uses, and the imports that this needs."""
  return _of_reached(program, reached, ())


def _of_reached(program: Program, reached: Reached, modules: Iterable[str]) -> str:
  wins = {id(s) for call in reached.calls for s in program.bound(*call).values()}
  keys = [k for k in reached.keys if id(program.winner(program.bindings[k])) in wins]
  return _text(program, reached.macros, keys, dict(_defaults(program, reached)), modules)


def of_all(program: Program) -> str:
  """All that a config says, used or not."""
  return _text(program, program.macros, program.bindings, {}, program.names.modules)


def _text(
  program: Program,
  names: Iterable[str],
  keys: Iterable[Key],
  defaults: Mapping[Default, Any],
  modules: Iterable[str],
) -> str:
  macros = {name: program.winner(program.macros[name]) for name in sorted(names)}
  bindings = {key: program.winner(program.bindings[key]) for key in keys}
  statements = [*macros.values(), *bindings.values()]
  spell = _Speller(program, statements, [c for c, _ in defaults], modules)
  blocks: dict[str, list[tuple[int, str, str]]] = {}  # function → position, parameter, line
  for (scope, configurable, parameter), statement in bindings.items():
    left = "/".join([*scope, spell.name(configurable)])
    line = spell.line(f"{left}.{parameter}", statement)
    blocks.setdefault(left, []).append((_position(configurable, parameter), parameter, line))
  for (configurable, parameter), value in defaults.items():
    left = spell.name(configurable)
    line = f"{left}.{parameter} = {render(value)}"
    blocks.setdefault(left, []).append((_position(configurable, parameter), parameter, line))
  parts = [
    ["from __gin__ import dynamic_registration"],
    list(spell.imports()),
    [spell.line(name, statement) for name, statement in macros.items()],
    *([line for *_, line in sorted(blocks[left])] for left in sorted(blocks, key=_last_first)),
  ]
  return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _last_first(left: str) -> list[str]:
  return left.split("/")[::-1]


class _Speller:
  """Gives every module one name: its last part, or the whole with underscores where two clash."""

  def __init__(
    self,
    program: Program,
    statements: list[Statement],
    others: list[Configurable],
    modules: Iterable[str],
  ) -> None:
    self._program = program
    referred = [
      program.target(item, statement)
      for statement in statements
      for item in walk(statement.value)
      if isinstance(item, Reference)
    ]
    bound = [program.owner(s) for s in statements if s.parameter]
    needed = sorted(c.module for c in (*referred, *bound, *others))
    self._modules = list(dict.fromkeys([*modules, *needed]))
    last = [module.rpartition(".")[2] for module in self._modules]
    self._bound = {
      module: short if last.count(short) == 1 and short != "gin" else module.replace(".", "_")
      for module, short in zip(self._modules, last, strict=True)
    }

  def imports(self) -> Iterator[str]:
    """An import of every module."""
    for module in self._modules:
      parent, _, last = module.rpartition(".")
      alias = "" if self._bound[module] == last else f" as {self._bound[module]}"
      yield (f"from {parent} import {last}" if parent else f"import {last}") + alias

  def name(self, configurable: Configurable) -> str:
    """What the text calls it."""
    return f"{self._bound[configurable.module]}.{configurable.path}"

  def line(self, left: str, statement: Statement) -> str:
    """`left = value`."""

    def selector(reference: Reference) -> str:
      return self.name(self._program.target(reference, statement))

    value = statement.value
    line = f"{left} = {render(value, selector)}"
    if len(line) <= WIDTH or not isinstance(value, list | tuple | Mapping):
      return line
    if isinstance(value, Mapping):
      items = [f"{render(k, selector)}: {render(v, selector)}" for k, v in value.items()]
    else:
      items = [render(v, selector) for v in value]
    brackets = {list: "[]", tuple: "()"}.get(type(value), "{}")
    inner = "".join(f"  {item},\n" for item in items)
    return f"{left} = {brackets[0]}\n{inner}{brackets[1]}"


def _position(configurable: Configurable, parameter: str) -> int:
  names = list(configurable.named)
  return names.index(parameter) if parameter in names else len(names)


def _defaults(program: Program, reached: Reached) -> Iterator[tuple[Default, Any]]:
  """Literal defaults that some call takes.

  Not those of functions that are also passed on uncalled: without bindings they stay what they are.
  """
  for configurable, scope in reached.calls:
    bound = program.bound(configurable, scope)
    for name, parameter in configurable.named.items():
      told = name in bound or name.startswith("_") or configurable in reached.passed
      if not told and _is_literal(parameter.default):
        yield (configurable, name), parameter.default


def _is_literal(value: Any) -> bool:
  if value is None or type(value) in (bool, int, str):
    return True
  if type(value) is float:
    return math.isfinite(value)
  if type(value) in (list, tuple):
    return all(map(_is_literal, value))
  if type(value) is dict:
    return all(_is_literal(item) for pair in value.items() for item in pair)
  return False
