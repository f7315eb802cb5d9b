"""SeqIO tasks and mixtures, one topic a file, found by discovery.

A topic has a `register()`, or lists sets with prompts as `SETS`, or both. Importing one costs
nothing; registering loads SeqIO. Import them as `mtm.tasks`.
"""

from __future__ import annotations

from mtm import discovery
from mtm.prompts import library

_registered: set[str] = set()  # topics, their tasks
_asked: set[str] = set()  # topics, those of their sets


def measure() -> None:
  """Tells what the metrics are that sets with prompts name, also a user's."""
  from mtm.data.sources import prompted
  from mtm.tasks import _metrics

  prompted.measured(_metrics.OF_ANSWERS)


def register(sets: bool = True) -> None:
  """Registers the tasks of every topic that is not registered yet.

  Args:
    sets: whether those of sets with prompts too: thousands, each of which can be had by its name
      alone, see `prompted.named`.
  """
  from mtm.data.sources import prompted

  for module in discovery.modules("mtm.tasks"):
    if sets and module.__name__ not in _asked:
      for data in library.listed(module):
        prompted.add(data)
      _asked.add(module.__name__)
    if hasattr(module, "register") and module.__name__ not in _registered:
      module.register()
      _registered.add(module.__name__)


def licences() -> dict[str, str]:
  """Task → the licence of its data, of those topics that know it (their `LICENCES` or `SETS`)."""
  found: dict[str, str] = {}
  for module in discovery.modules("mtm.tasks"):
    found |= getattr(module, "LICENCES", {})
    found |= {data.name: data.licence for data in library.listed(module) if data.licence}
  return found
