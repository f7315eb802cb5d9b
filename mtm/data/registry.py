"""Finding a task or mixture by name, wherever it was registered."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from mtm import discovery
from mtm.data import _tensorflow
from mtm.errors import UserError, nearest

_declared: list[Callable[[], None]] = []
_ours = False  # whether it is mtm that registers at the moment
_ours_alone = True
_names_of_ours: set[str] = set()


def declare(add: Callable[[], None]) -> None:
  """Calls `add`, which registers something: now if SeqIO is loaded, else when a task is looked up.

  So a gin file may import a module full of tasks, and its check still ends before TensorFlow is
  loaded.
  """
  global _ours_alone
  _ours_alone = _ours_alone and _ours
  if "seqio" in sys.modules:
    add()
  else:
    _declared.append(add)


def ours_alone() -> bool:
  """Whether nobody but mtm has registered tasks in this process, as far as can be told."""
  return _ours_alone and not _tensorflow.came_loaded()


def is_ours(name: str) -> bool:
  """Whether mtm itself has registered this task or mixture, in this process."""
  return name in _names_of_ours


def register(module: str | None = None, sets: bool = True) -> None:
  """Registers the tasks of `module`, of `mtm.tasks`, and whatever was declared before.

  Args:
    module: the import path of a module that registers tasks, such as `my_project.tasks`.
    sets: see `mtm.tasks.register`; what was declared may name any of them.

  Raises:
    UserError: there is no such module.
  """
  from mtm import tasks

  global _ours_alone
  _ours_alone = _ours_alone and module is None
  tasks.measure()
  if module:  # before ours, so that one may bring T5's own definitions of the same names
    _declare_sets(discovery.of_user(module, "MIXTURE_OR_TASK_MODULE"))
  with _by_mtm():
    tasks.register(sets or bool(_declared))
  while _declared:
    _declared.pop(0)()


@contextlib.contextmanager
def _by_mtm() -> Iterator[None]:
  """What is declared or registered within is mtm's own."""
  global _ours
  before, known, _ours = _ours, _names(), True
  try:
    yield
  finally:
    _ours = before
    _names_of_ours.update(_names() - known)


def _names() -> set[str]:
  seqio = _tensorflow.seqio()
  return {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}


def find(name: str, module: str | None = None) -> Any:
  """The SeqIO task or mixture called `name`, after `register(module)`.

  Raises:
    UserError: nothing of this name is registered, or there is no such module.
  """
  from mtm.data.sources import prompted

  register(module, sets=False)
  with _by_mtm():
    found = name in _names() or prompted.named(name, module)
  if not found:
    register()
  if name not in _names():
    raise UserError(
      f"no task or mixture {name!r} is registered{nearest(name, _names())} "
      "(`mtm tasks` lists them; MIXTURE_OR_TASK_MODULE names a module with your own)"
    )
  return _tensorflow.seqio().get_mixture_or_task(name)


def _declare_sets(module: ModuleType) -> None:
  """The tasks of the sets with prompts that a user's module lists as `SETS`."""
  from mtm.data.sources import prompted
  from mtm.prompts import library

  for data in library.listed(module):
    prompted.add(data)
