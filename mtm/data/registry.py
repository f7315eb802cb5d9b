"""Finding a task or mixture by name, wherever it was registered."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mtm import discovery
from mtm.errors import UserError, nearest

_declared: list[Callable[[], None]] = []


def declare(add: Callable[[], None]) -> None:
  """Calls `add`, which registers something: now if SeqIO is loaded, else when a task is looked up.

  So a gin file may import a module full of tasks, and its check still ends before TensorFlow is
  loaded.
  """
  if "seqio" in sys.modules:
    add()
  else:
    _declared.append(add)


def register(module: str | None = None, sets: bool = True) -> None:
  """Registers the tasks of `module`, of `mtm.tasks`, and whatever was declared before.

  Args:
    module: the import path of a module that registers tasks, such as `my_project.tasks`.
    sets: see `mtm.tasks.register`; what was declared may name any of them.

  Raises:
    UserError: there is no such module.
  """
  from mtm import tasks

  tasks.measure()
  if module:  # before ours, so that one may bring T5's own definitions of the same names
    _declare_sets(discovery.of_user(module, "MIXTURE_OR_TASK_MODULE"))
  tasks.register(sets or bool(_declared))
  while _declared:
    _declared.pop(0)()


def find(name: str, module: str | None = None) -> Any:
  """The SeqIO task or mixture called `name`, after `register(module)`.

  Raises:
    UserError: nothing of this name is registered, or there is no such module.
  """
  from mtm.data._tensorflow import seqio
  from mtm.data.sources import prompted

  def names() -> set[str]:
    return {*seqio().TaskRegistry.names(), *seqio().MixtureRegistry.names()}

  register(module, sets=False)
  if name not in names() and not prompted.named(name, module):
    register()
  if name not in names():
    raise UserError(
      f"no task or mixture {name!r} is registered{nearest(name, names())} "
      "(`mtm tasks` lists them; MIXTURE_OR_TASK_MODULE names a module with your own)"
    )
  return seqio().get_mixture_or_task(name)


def _declare_sets(module: ModuleType) -> None:
  """The tasks of the sets with prompts that a user's module lists as `SETS`."""
  from mtm.data.sources import prompted
  from mtm.prompts import library

  for data in library.listed(module):
    prompted.add(data)
