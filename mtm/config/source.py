"""Reads gin files and `--gin.` flags into statements that know where they stand; imports nothing.

Only the syntax is gin's (`gin.config_parser`): what names mean, and whether values fit, is decided
by the other modules of this package. Two rules differ from gin's own and protect the user:
`X = %gin.REQUIRED` never replaces a value (see `Program.winner`), and a file that was read already
is not read again by an `include`, so a shared base file cannot undo what was set on top of it.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gin import config_parser  # type: ignore[attr-defined]  # mypy takes our folder gin/ for it
from mtm.errors import UserError, nearest

SHIPPED = Path(__file__).resolve().parents[1].joinpath("gin").resolve()  # the installed files
FLAGS = ""  # stands for the command line where a file is asked for

Scope = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Macro:
  """`%NAME`, or `%scope/NAME`."""

  name: str

  @property
  def scope(self) -> Scope:
    """The scope in which gin evaluates the macro's value."""
    return tuple(self.name.split("/"))


@dataclasses.dataclass(frozen=True)
class Reference:
  """`@scope/selector` (the function), or `@scope/selector()` (what it returns)."""

  scope: Scope
  selector: str
  evaluate: bool


REQUIRED = Macro("gin.REQUIRED")


@dataclasses.dataclass(frozen=True)
class Import:
  """`import module [as alias]`, or the same with `from`.

  Attributes:
    module: the full name.
    bound: the name by which the file may use it.
    top: whether `bound` is the first component of `module`, as after `import a.b`.
    file, place: where it stands.
  """

  module: str
  bound: str
  top: bool
  file: str
  place: str


@dataclasses.dataclass(frozen=True)
class Statement:
  """`scope/selector.parameter = value`; without a parameter it defines a macro.

  Attributes:
    scope, selector, parameter: the left-hand side; a macro's scope is part of its `selector`.
    value: a literal, `Macro`, `Reference`, or lists, tuples and dicts of them.
    file: the file whose imports give names their meaning; `FLAGS` on the command line.
    place: `file:line`, or the flag as it was given.
    order: grows in reading order; infinite for flags.
    given: which `--gin_file` said it, by itself or by what it includes; -1 for flags.
    shipped: whether it stands in one of mtm's own files.
  """

  scope: Scope
  selector: str
  parameter: str
  value: Any
  file: str
  place: str
  order: float
  given: int = -1
  shipped: bool = False


@dataclasses.dataclass(frozen=True)
class Source:
  """All statements, in reading order, and the names of the files that were asked for."""

  files: Sequence[str]
  imports: Sequence[Import]
  statements: Sequence[Statement]


def read(files: Iterable[str], bindings: Iterable[str], search_paths: Iterable[str]) -> Source:
  """Reads `files`, what they include, and then `bindings` such as `"TRAIN_STEPS=100"`.

  Args:
    files: looked for in the working directory, in `search_paths`, in mtm's gin files.
    bindings: what follows `--gin.` on the command line.
    search_paths: directories.

  Raises:
    UserError: a file is missing, includes itself or has bad syntax; a binding has bad syntax.
  """
  reader = _Reader([".", *search_paths, str(SHIPPED)])
  files = list(files)
  for file in files:
    reader.given += 1
    reader.file(file, "--gin_file=" + file, ())
  for binding in bindings:
    reader.statements.append(_flag(binding))
  return Source(files, tuple(reader.imports), tuple(reader.statements))


def walk(value: Any) -> Iterator[Macro | Reference]:
  """The macros and references inside a value."""
  if isinstance(value, Macro | Reference):
    yield value
  elif isinstance(value, Mapping):
    for key, item in value.items():
      yield from walk(key)
      yield from walk(item)
  elif isinstance(value, list | tuple):
    for item in value:
      yield from walk(item)


def render(value: Any, selector: Callable[[Reference], str] = lambda r: r.selector) -> str:
  """A value in gin's syntax; `selector` spells what references refer to."""
  if isinstance(value, Macro):
    return f"%{value.name}"
  if isinstance(value, Reference):
    return "@" + "/".join([*value.scope, selector(value)]) + ("()" if value.evaluate else "")
  if isinstance(value, Mapping):
    items = (f"{render(k, selector)}: {render(v, selector)}" for k, v in value.items())
    return "{" + ", ".join(items) + "}"
  if isinstance(value, list):
    return "[" + ", ".join(render(v, selector) for v in value) + "]"
  if isinstance(value, tuple):
    items = (render(v, selector) for v in value)
    return "(" + ", ".join(items) + ("," if len(value) == 1 else "") + ")"
  return repr(value)


class _Reader:
  """Collects the statements of files, one after the other."""

  def __init__(self, search_paths: Sequence[str]) -> None:
    self.search_paths = search_paths
    self.imports: list[Import] = []
    self.statements: list[Statement] = []
    self.given = -1
    self._read: set[str] = set()

  def file(self, name: str, asked_by: str, within: tuple[str, ...]) -> None:
    """Reads one file; `within` are the files that include it, outermost first."""
    beside = [os.path.dirname(within[-1])] if within else []
    path = find(name, asked_by, [*self.search_paths, *beside])
    real = os.path.realpath(path)
    if real in within:
      by_way = "" if real == within[-1] else f", by way of {_shown(within[-1])}"
      raise UserError(f"{asked_by}: {_shown(real)} includes itself{by_way}")
    if within and real in self._read:
      return
    self._read.add(real)
    try:
      with open(path, encoding="utf-8") as stream:
        self._parse(stream, real, within)
    except UnicodeDecodeError as e:
      raise UserError(f"{_shown(real)}: the file is not UTF-8 text ({e.reason})") from e
    except OSError as e:
      raise UserError(f"{_shown(real)}: cannot read the file: {e.strerror}") from e

  def _parse(self, stream: Any, real: str, within: tuple[str, ...]) -> None:
    shown = _shown(real)
    shipped = Path(real).is_relative_to(SHIPPED)
    for parsed in _statements(stream, shown):
      place = f"{shown}:{parsed.location.line_num}"
      if isinstance(parsed, config_parser.IncludeStatement):
        self.file(parsed.filename, place, (*within, real))
      elif isinstance(parsed, config_parser.ImportStatement):
        if parsed.module.startswith("__gin__."):
          continue
        top = not parsed.is_from and not parsed.alias
        self.imports.append(Import(parsed.module, parsed.bound_name(), top, real, place))
      elif isinstance(parsed, config_parser.BindingStatement):
        said = _statement(parsed, real, place)
        order = len(self.statements)
        self.statements.append(
          dataclasses.replace(said, order=order, given=self.given, shipped=shipped)
        )


class _Delegate(config_parser.ParserDelegate):
  """Makes our own values of gin's references and macros."""

  def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Reference:
    *scope, selector = scoped_configurable_name.split("/")
    return Reference(tuple(scope), selector, evaluate)

  def macro(self, macro_name: str) -> Macro:
    return Macro(macro_name)


def _statements(text: Any, shown: str) -> Iterator[Any]:
  """gin's statements of a file or string; syntax errors become UserErrors."""
  try:
    yield from config_parser.ConfigParser(text, _Delegate())
  except SyntaxError as e:
    token = re.search(r"Failed to parse token '(.*)'", str(e.msg))
    why = str(e.msg).split("\n")[0]
    if token:
      why = f"{token[1]} is not a value; a string needs quotes: {token[1]!r}"
    raise UserError(f"{shown}:{e.lineno}: {why}") from e
  except tokenize.TokenError as e:
    raise UserError(f"{shown}:{e.args[1][0]}: unfinished statement: {e.args[0]}") from e


def _statement(parsed: Any, file: str, place: str) -> Statement:
  scope = tuple(parsed.scope.split("/")) if parsed.scope else ()
  selector = parsed.selector
  if not parsed.arg_name:  # a macro's scope is a part of its name
    scope, selector = (), "/".join([*scope, selector])
  return Statement(scope, selector, parsed.arg_name, parsed.value, file, place, math.inf)


_KEY = re.compile(r"[A-Za-z_]\w*([./][A-Za-z_]\w*)*")
_BARE = re.compile(r"[A-Za-z_./~][\w./:~+=,-]*")  # a path or a name, which a shell has unquoted
_LOOKALIKE = {"true": "True", "false": "False", "none": "None", "null": "None"}


def _flag(binding: str) -> Statement:
  """The statement of one `NAME=VALUE`; a VALUE that looks like a path or a name may lack quotes."""
  key, equals, text = (part.strip() for part in binding.partition("="))
  place = f"--gin.{key}{equals}{text}"
  if not equals or not _KEY.fullmatch(key):
    raise UserError(f"{place}: write --gin.NAME=VALUE or --gin.scope/function.parameter=VALUE")
  try:
    parsed = list(_statements(f"{key} = {text}\n", place))
  except UserError as e:
    fix = f"""--gin.{key}="{text!r}\""""
    if text in _LOOKALIKE.keys() - {""}:
      raise UserError(f"{place}: write --gin.{key}={_LOOKALIKE[text]}") from e
    if not _BARE.fullmatch(text):
      raise UserError(
        f"{place}: {text or 'nothing'} is not a gin value; for a string: {fix}"
      ) from e
    parsed = list(_statements(f"{key} = {text!r}\n", place))
  if len(parsed) != 1 or not isinstance(parsed[0], config_parser.BindingStatement):
    raise UserError(f"{place}: one flag gives one value: --gin.NAME=VALUE")
  return _statement(parsed[0], FLAGS, place)


def find(name: str, asked_by: str, search_paths: Sequence[str]) -> str:
  """The path of a gin file.

  Raises:
    UserError: there is none; with the nearest name and the directories that were searched.
  """
  paths = list(dict.fromkeys(search_paths))
  for path in paths:
    candidate = os.path.join(path, os.path.expanduser(name))
    if os.path.isfile(candidate):
      return candidate
  near = {str(p.relative_to(SHIPPED)) for p in SHIPPED.rglob("*.gin")}
  for path in paths:  # not recursively: the working directory may be a whole home
    folder = Path(path, os.path.dirname(name))
    near.update(str(Path(os.path.dirname(name), p.name)) for p in folder.glob("*.gin"))
  where = ", ".join(os.path.abspath(p) for p in paths)
  raise UserError(f"{asked_by}: no file {name!r} in {where}{nearest(name, near)}")


def _shown(path: str) -> str:
  """The path as the user would type it."""
  here = os.path.realpath(os.getcwd())
  return os.path.relpath(path, here) if path.startswith(here + os.sep) else path
