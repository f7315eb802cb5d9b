"""SeqIO tasks and mixtures, one topic a file; each has a `register()`, found by discovery.

Importing a topic costs nothing; `register()` loads SeqIO. Import them as `mtm.tasks`.
"""

from __future__ import annotations

from mtm import discovery

_registered: set[str] = set()


def register() -> None:
  """Registers the tasks of every topic that is not registered yet."""
  for module in discovery.modules("mtm.tasks"):
    if module.__name__ not in _registered:
      getattr(module, "register", _nothing)()
      _registered.add(module.__name__)


def _nothing() -> None:
  """A topic that lists prompted `SETS` needs no `register`."""


def licences() -> dict[str, str]:
  """Task → the licence of its data, of those topics that know it (their `LICENCES`)."""
  found: dict[str, str] = {}
  for module in discovery.modules("mtm.tasks"):
    found |= getattr(module, "LICENCES", {})
  return found
