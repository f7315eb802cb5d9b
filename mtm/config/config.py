"""A loaded config: it has been checked, and can be called, asked for a macro, and written."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import operator
import sys
from collections.abc import Callable, Iterable
from typing import Any

from mtm.config import check, text
from mtm.config.build import Builder
from mtm.config.names import Configurable
from mtm.config.program import Program, resolve
from mtm.config.source import REQUIRED, read

_RUNNING: list[Config] = []  # the configs being called, innermost last


@dataclasses.dataclass(frozen=True)
class Config:
  """A checked config. Several may exist at once; none touches another.

  Attributes:
    program: what was said, with names resolved.
    root: what `call` calls, or None.
  """

  program: Program
  root: Configurable | None

  def call(self) -> Any:
    """Calls the root with what is bound to it, and returns what it returns."""
    if self.root is None:
      raise ValueError("a config that was loaded without a root cannot be called")
    _RUNNING.append(self)
    try:
      return Builder(self.program).call(self.root, ())
    finally:
      _RUNNING.remove(self)

  def arguments(self, *names: str) -> dict[str, Any]:
    """What is bound to these parameters of the root, made anew; what is not bound is left out."""
    if self.root is None:
      raise ValueError("a config that was loaded without a root has no arguments")
    return Builder(self.program).arguments(self.root, names)

  def value(self, name: str) -> Any:
    """The object that a macro stands for, such as `MODEL`, made anew.

    Raises:
      UserError: no such macro; something in it does not fit or is missing.
    """
    reached = check.reach_macro(self.program, name)
    check.refuse_wrong(reached)
    check.refuse_missing(reached)
    return Builder(self.program).macro(name)

  def parts(self, name: str) -> tuple[Callable[..., Any], dict[str, Any]] | None:
    """The function that a macro such as `MODEL` calls, and its bound arguments; None where the
    macro's value is no call.

    Raises:
      UserError: as in `value`.
    """
    reached = check.reach_macro(self.program, name)
    check.refuse_wrong(reached)
    return Builder(self.program).parts(name)

  def defines(self, name: str) -> bool:
    """Whether there is a macro of this name."""
    return name in self.program.macros

  def lacks(self, name: str) -> bool:
    """Whether the macro is there and still to be given a value."""
    found = self.program.macros.get(name)
    return found is not None and self.program.winner(found).value == REQUIRED

  def text_of(self, *names: str) -> str:
    """The gin text of these macros and all that they reach, such as a model's alone.

    Raises:
      UserError: there is no such macro.
    """
    reached = check.Reached()
    for name in names:
      reached |= check.reach_macro(self.program, name)
    return text.of_part(self.program, reached)

  @functools.cached_property
  def text(self) -> str:
    """The resolved config as gin text; loading it with the same root repeats the same job."""
    if self.root is None:
      return text.of_all(self.program)
    return text.of_run(self.program, check.reach(self.program, self.root))


def load(
  root: Callable[..., Any] | None,
  files: Iterable[str],
  bindings: Iterable[str] = (),
  search_paths: Iterable[str] = (),
) -> Config:
  """Reads a config and checks it; builds nothing and starts no device.

  Args:
    root: the function that the config is for, such as `mtm.train.train`; None looks for unknown
      names only, and `Config.value` checks what it is asked for.
    files: gin files, looked for in the working directory, in `search_paths`, in mtm's own.
    bindings: `"NAME=VALUE"` each; they come after all files.
    search_paths: directories.

  Raises:
    UserError: anything unknown, unused, of a wrong type or missing, with its place.
  """
  program = resolve(read(files, bindings, search_paths))
  if root is None:
    return Config(program, None)
  configurable = program.names.of(importable(root))
  reached = check.reach(program, configurable)
  check.refuse_wrong(reached)  # first: with a wrong part, what is said of the right one is unused
  check.refuse_unused(program, reached)
  check.refuse_missing(reached)  # last: a misspelt macro is unused, and missing by its right name
  return Config(program, configurable)


def current_text(*names: str) -> str:
  """The text of the config whose root is running, or of some macros of it; empty when none runs.

  Threads that the run has started see it too.
  """
  if not _RUNNING:
    return ""
  return _RUNNING[-1].text_of(*names) if names else _RUNNING[-1].text


def importable(root: Callable[..., Any]) -> Callable[..., Any]:
  """The root as gin files import it: under `python -m mtm.train` it lives in `__main__` as well."""
  spec = getattr(sys.modules["__main__"], "__spec__", None)
  if root.__module__ != "__main__" or spec is None:
    return root
  return operator.attrgetter(root.__qualname__)(importlib.import_module(spec.name))
