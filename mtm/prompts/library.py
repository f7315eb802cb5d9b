"""Finding sets by name: those of `mtm.tasks`, and those of a module of your own.

A module lists its sets as `SETS`, a sequence of `Prompted` or a function that returns one.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from mtm import discovery
from mtm.errors import UserError, nearest
from mtm.prompts.prompted import Prompted


def sets(module: str | None = None) -> dict[str, Prompted]:
  """Name → set, of `mtm.tasks` and of `module`, whose own win.

  Args:
    module: the import path of a module with `SETS`; it may lie in the current directory.

  Raises:
    UserError: there is no such module, or two sets have one name.
  """
  found: dict[str, Prompted] = {}
  for topic in discovery.modules("mtm.tasks"):
    for data in listed(topic):
      if data.name in found:
        raise UserError(f"two sets are called {data.name!r}; rename the one in {topic.__name__}")
      found[data.name] = data
  return (
    found | {data.name: data for data in listed(discovery.of_user(module))} if module else found
  )


def listed(module: ModuleType) -> Sequence[Prompted]:
  """The sets of a module, none where it lists none. They are made once."""
  found = getattr(module, "SETS", ())
  if callable(found):
    made = vars(module).setdefault("_made_sets", None)
    if made is None:
      made = vars(module)["_made_sets"] = tuple(found())
    return made
  return found


def find(name: str, module: str | None = None) -> Prompted:
  """The set called so. Raises UserError where there is none, or as `sets` does."""
  known = sets(module)
  if name not in known:
    raise UserError(f"no set {name!r} has prompts{nearest(name, known)}")
  return known[name]


def names(module: str | None = None) -> list[str]:
  """Every set's name, sorted."""
  return sorted(sets(module))


def clusters(module: str | None = None) -> dict[str, list[str]]:
  """Cluster → the names of its sets, both sorted."""
  found: dict[str, list[str]] = {}
  for name, data in sorted(sets(module).items()):
    found.setdefault(data.cluster, []).append(name)
  return dict(sorted(found.items()))


def held_out(cluster: str, module: str | None = None) -> list[str]:
  """The names of all sets but those of a cluster. Raises UserError for an unknown cluster."""
  known = clusters(module)
  if cluster not in known:
    raise UserError(f"no cluster {cluster!r}{nearest(cluster, known)}")
  return sorted(name for other in known if other != cluster for name in known[other])
