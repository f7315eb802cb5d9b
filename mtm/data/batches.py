"""Batches that are made ahead, and whose state is that of the batches handed out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mtm.data.features import Layout
from mtm.data.prefetch import Prefetch
from mtm.data.rows import Rows, Snapshot, from_json, to_json
from mtm.errors import UserError


@dataclasses.dataclass(frozen=True)
class Cut:
  """How rows are cut into batches.

  Attributes:
    rows: of a global batch.
    shard: number of this host and how many there are: it gets its stretch of every batch's rows.
    limit: batches in all; None: as many as the rows give.
    prefetch: batches made ahead by a thread; 0: none.
  """

  rows: int
  shard: tuple[int, int] = (0, 1)
  limit: int | None = None
  prefetch: int = 2

  @property
  def local(self) -> slice:
    """The rows of this host.

    Raises:
      UserError: the hosts do not divide the batch.
    """
    index, hosts = self.shard
    if self.rows < 1 or self.rows % hosts:
      raise UserError(
        f"batch_size = {self.rows} does not divide among {hosts} hosts; take a multiple of {hosts}"
      )
    if not 0 <= index < hosts:
      raise UserError(f"shard = {self.shard}: the first number must be from 0 to {hosts - 1}")
    each = self.rows // hosts
    return slice(index * each, (index + 1) * each)


class _Ready(NamedTuple):
  """A batch, with the state after it."""

  batch: dict[str, np.ndarray]
  number: int
  snapshot: Snapshot


class RowBatches:
  """Implements `mtm.types.Batches` over `Rows`.

  Every host makes the rows of all, and hands out its own: so the global batches, and the state,
  are the same for any number of hosts.

  Args:
    rows: the packed rows; nobody else may use them.
    layout: of the batch.
    cut: rows of a batch.
    vocab_size: an id beyond it is an error.
    identity: what a state must be of: JSON-able; see `restore`.
    rates: task → its share of the mixture; they add up to 1.
  """

  def __init__(
    self,
    rows: Rows,
    layout: Layout,
    cut: Cut,
    vocab_size: int,
    identity: Mapping[str, Any],
    rates: Mapping[str, float],
  ) -> None:
    self._rows, self._layout, self._cut = rows, layout, cut
    self._local, self._vocab_size = cut.local, vocab_size
    self._identity, self._rates = dict(identity), dict(rates)
    self._made = self._given = 0
    self._snapshot = rows.snapshot()
    self._ahead: Prefetch[_Ready] | None = None

  def __iter__(self) -> RowBatches:
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    """The next batch: feature → int32 `[rows / hosts, length]`; rows lacking at the end are zeros.

    Raises:
      UserError: the data are empty or damaged.
    """
    if self._ahead is None:
      self._ahead = Prefetch(self._make, self._cut.prefetch)
    batch, self._given, self._snapshot = next(self._ahead)
    return batch

  def state(self) -> dict[str, Any]:
    """Where the batches handed out end, as JSON-able values; what was made ahead does not count."""
    return {"of": self._identity, "batches": self._given, **to_json(self._snapshot)}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Goes on after the batch at which `state` was taken.

    The number of hosts, the size of a batch and the depth of prefetch may differ.

    Raises:
      UserError: the state is damaged, or of other data: another mixture, rate, split, objective,
        length, seed, or other examples.
    """
    try:
      told, given, snapshot = dict(state["of"]), int(state["batches"]), from_json(state)
    except (KeyError, TypeError, ValueError) as e:
      raise UserError(f"the saved data state is damaged ({type(e).__name__}: {e})") from e
    for name in {**self._identity, **told}:
      if told.get(name) != self._identity.get(name):
        raise UserError(
          f"the saved data state is of other data: {name} was {told.get(name)} and is now "
          f"{self._identity.get(name)}; set it back, or start from a checkpoint without its data"
        )
    self.close()
    self._rows.restore(snapshot)
    self._made = self._given = given
    self._snapshot, self._ahead = snapshot, None

  def proportions(self) -> dict[str, dict[str, float]]:
    """For each task what was drawn up to the last batch, exactly.

    Returns:
      task → `rate` (its share by the mixture's rates), `realised` (its share of the examples),
      `examples` and `tokens` (as the rows hold them, sentinels and ends included).
    """
    counts = {name: state[2:] for name, state in self._snapshot.streams.items()}
    total = sum(examples for examples, _ in counts.values())
    return {
      name: {
        "rate": self._rates[name],
        "realised": examples / total if total else 0.0,
        "examples": examples,
        "tokens": tokens,
      }
      for name, (examples, tokens) in counts.items()
    }

  def close(self) -> None:
    """Ends the thread; only `restore` makes this object usable again."""
    if self._ahead is not None:
      self._ahead.close()

  def _make(self) -> _Ready | None:
    """The next batch; in the thread."""
    if self._cut.limit is not None and self._made >= self._cut.limit:
      return None
    rows = self._rows.take(self._cut.rows)
    if not rows:
      return None
    count = self._local.stop - self._local.start
    batch = self._layout.assemble(rows[self._local], count)
    for name, values in batch.items():
      if name.endswith("_tokens") and values.max() >= self._vocab_size:
        raise UserError(
          f"{name} holds the id {values.max()}, and the vocabulary ends at {self._vocab_size - 1}: "
          "the token cache is damaged; delete the folder tokens/ in MTM_CACHE"
        )
    self._made += 1
    return _Ready(batch, self._made, self._rows.snapshot())
