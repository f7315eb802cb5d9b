"""The rows of several shards, side by side in a batch: who reads one leaves the others alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtm.data.features import Piece
from mtm.data.rows import Rows, Snapshot, from_json, to_json

Snapshots = Mapping[int, Snapshot]  # by the shard's number
_SHARDS = "shards"


class Shards:
  """Those shards of a data set that one host reads.

  A shard is every n-th example of each task, mixed, packed and shuffled by itself, and gives the
  same rows to whoever reads it.

  Args:
    rows: of each shard, in the order of their numbers; nobody else may use them.
  """

  def __init__(self, rows: Mapping[int, Rows]) -> None:
    self._rows = rows

  def take(self, count: int) -> list[list[Piece]]:
    """The next `count` rows of each shard, one shard after the other; where its data have ended
    empty rows. None at all at the end of all."""
    taken = [rows.take(count) for rows in self._rows.values()]
    if not any(taken):
      return []
    return [row for rows in taken for row in rows + [[]] * (count - len(rows))]

  def snapshot(self) -> Snapshots:
    """Where each stands."""
    return {number: rows.snapshot() for number, rows in self._rows.items()}

  def restore(self, snapshots: Snapshots) -> None:
    """Goes to where they were taken; those of other shards are left alone.

    Raises:
      UserError: the examples are not there.
      KeyError: one is lacking.
    """
    for number, rows in self._rows.items():
      rows.restore(snapshots[number])


def saved(snapshots: Snapshots, count: int) -> dict[str, Any]:
  """Snapshots as JSON-able values.

  Args:
    snapshots: of some or all shards.
    count: how many there are; one alone is written without its number.
  """
  if count == 1:
    return to_json(snapshots[0])
  return {_SHARDS: {str(number): to_json(one) for number, one in snapshots.items()}}


def read(state: Mapping[str, Any]) -> Snapshots:
  """The inverse of `saved`. Raises KeyError, TypeError or ValueError where it is damaged."""
  if _SHARDS not in state:
    return {0: from_json(state)}
  return {int(number): from_json(one) for number, one in state[_SHARDS].items()}


def joined(states: list[dict[str, Any]]) -> dict[str, Any]:
  """What `saved` would give for the shards of all hosts, from what it gave each of them."""
  if not any(_SHARDS in state for state in states):
    return states[0]
  every = {number: one for state in states for number, one in state[_SHARDS].items()}
  return {_SHARDS: dict(sorted(every.items(), key=lambda item: int(item[0])))}


def counts(snapshots: Snapshots) -> dict[str, tuple[int, int]]:
  """Task → examples and tokens drawn, of these shards together."""
  found: dict[str, tuple[int, int]] = {}
  for one in snapshots.values():
    for name, (_, _, examples, tokens) in one.streams.items():
      before = found.get(name, (0, 0))
      found[name] = before[0] + examples, before[1] + tokens
  return found
