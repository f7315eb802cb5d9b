"""Mixtures of registered tasks in one call: by given rates, or by size with temperature and cap."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from mtm.data import registry
from mtm.errors import UserError

_ours: set[str] = set()  # mixtures that this module registered: those may be registered again


def mixture(
  name: str,
  tasks: Mapping[str, float] | Sequence[str],
  *,
  temperature: float = 1.0,
  cap: int | None = None,
) -> None:
  """Registers a SeqIO mixture, now or when tasks are first looked up.

  Calling it again with the same name replaces the mixture.

  Args:
    name: what MIXTURE_OR_TASK_NAME will say.
    tasks: task → rate; or names alone: then a task's rate is its number of training examples.
    temperature: rates by size become size^(1/temperature): above 1 favours small tasks (1910.10683,
      §3.5.2).
    cap: no task counts for more examples than this.

  Raises:
    UserError: the name is taken, a rate is not positive, or temperature or cap go with given rates;
      when tasks are looked up: one of the tasks does not exist.
  """
  by_size = not isinstance(tasks, Mapping)
  if not by_size and (temperature != 1.0 or cap is not None):
    raise UserError(
      f"mixture {name!r} has given rates: temperature and cap apply to rates by size only"
    )
  rates = tasks if isinstance(tasks, Mapping) else {}
  wrong = [task for task, rate in rates.items() if not rate > 0]
  if not tasks or wrong:
    raise UserError(f"mixture {name!r}: {wrong[0] if wrong else 'it'} needs a rate above 0")
  if temperature <= 0 or (cap is not None and cap < 1):
    raise UserError(f"mixture {name!r}: temperature {temperature} and cap {cap} must be positive")
  registry.declare(lambda: _add(name, tasks, temperature, cap))


def _add(name: str, tasks: Any, temperature: float, cap: int | None) -> None:
  from mtm.data._tensorflow import seqio

  known = {*seqio().TaskRegistry.names(), *seqio().MixtureRegistry.names()}
  if name in known - _ours:
    raise UserError(f"a task or mixture {name!r} is registered already: choose another name")
  if name in known:
    seqio().MixtureRegistry.remove(name)
  by_size = functools.partial(
    seqio().mixing_rate_num_examples, maximum=cap, temperature=temperature
  )
  rates = list(tasks.items()) if isinstance(tasks, Mapping) else [(t, by_size) for t in tasks]
  try:
    seqio().MixtureRegistry.add(name, rates)
  except ValueError as error:
    raise UserError(f"mixture {name!r}: {' '.join(str(error).split())}") from error
  _ours.add(name)
