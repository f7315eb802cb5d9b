"""SeqIO tasks and mixtures, one topic a file, found by discovery.

A topic has a `register()`, or lists sets with prompts as `SETS`, or both. Importing one costs
nothing; registering loads SeqIO. Import them as `mtm.tasks`.
"""

from __future__ import annotations

from types import ModuleType

from mtm import discovery
from mtm.prompts import library

_registered: set[str] = set()


def register() -> None:
  """Registers the tasks of every topic that is not registered yet."""
  for module in discovery.modules("mtm.tasks"):
    if module.__name__ not in _registered:
      if hasattr(module, "SETS"):
        _register_sets(module)
      if hasattr(module, "register"):
        module.register()
      _registered.add(module.__name__)


def _register_sets(module: ModuleType) -> None:
  """The tasks of a topic's sets."""
  from mtm.data.sources import prompted
  from mtm.tasks import _metrics

  for data in library.listed(module):
    prompted.add(data, _metrics.OF_ANSWERS)


def licences() -> dict[str, str]:
  """Task → the licence of its data, of those topics that know it (their `LICENCES` or `SETS`)."""
  found: dict[str, str] = {}
  for module in discovery.modules("mtm.tasks"):
    found |= getattr(module, "LICENCES", {})
    found |= {data.name: data.licence for data in library.listed(module) if data.licence}
  return found
