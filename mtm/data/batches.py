"""Batches that are made ahead, and whose state is that of the batches handed out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mtm.data.features import Layout
from mtm.data.prefetch import Prefetch
from mtm.data.shards import Shards, Snapshots, counts, joined, read, saved
from mtm.errors import UserError

Gather = Callable[[dict[str, Any]], list[dict[str, Any]]]  # what each host says, in their order


@dataclasses.dataclass(frozen=True)
class Cut:
  """How rows are cut into batches.

  Attributes:
    rows: of a global batch.
    shard: number of this host and how many there are: it gets its stretch of every batch's rows.
    limit: batches in all; None: as many as the rows give.
    prefetch: batches made ahead by a thread; 0: none.
    shards: of the data: each fills its stretch of every batch's rows.
  """

  rows: int
  shard: tuple[int, int] = (0, 1)
  limit: int | None = None
  prefetch: int = 2
  shards: int = 1

  @property
  def each(self) -> int:
    """Rows of a batch that one shard fills.

    Raises:
      UserError: the shards do not divide the batch.
    """
    if self.shards < 1 or self.rows % self.shards:
      divisors = [n for n in range(1, self.rows + 1) if self.rows % n == 0]
      raise UserError(
        f"shards = {self.shards} of the data do not divide batch_size = {self.rows}; take one of"
        f" {', '.join(map(str, divisors[:12]))}"
      )
    return self.rows // self.shards

  @property
  def read(self) -> range:
    """The numbers of the shards that fill this host's rows."""
    local = self.local
    return range(local.start // self.each, -(-local.stop // self.each))

  @property
  def own(self) -> slice:
    """This host's among the rows of the shards that it reads."""
    before = self.read.start * self.each
    return slice(self.local.start - before, self.local.stop - before)

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
  snapshots: Snapshots


class RowBatches:
  """Implements `mtm.types.Batches` over `Shards`.

  Every host makes the rows of the shards that have some of its own, and hands out its own: so the
  global batches, and the state, are the same for any number of hosts.

  Args:
    rows: those shards, `Cut.read`; nobody else may use them.
    layout: of the batch.
    cut: rows of a batch.
    vocab_size: an id beyond it is an error.
    identity: what a state must be of: JSON-able; see `restore`.
    rates: task → its share of the mixture; they add up to 1.
    gather: for the state, where hosts read several shards.
  """

  def __init__(
    self,
    rows: Shards,
    layout: Layout,
    cut: Cut,
    vocab_size: int,
    identity: Mapping[str, Any],
    rates: Mapping[str, float],
    gather: Gather = lambda mine: [mine],
  ) -> None:
    self._rows, self._layout, self._cut = rows, layout, cut
    self._vocab_size, self._gather = vocab_size, gather
    cut.own  # noqa: B018 (checks it)
    self._identity, self._rates = dict(identity), dict(rates)
    self._made = self._given = 0
    self._snapshots = rows.snapshot()
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
    batch, self._given, self._snapshots = next(self._ahead)
    return batch

  def state(self) -> dict[str, Any]:
    """Where the batches handed out end, as JSON-able values; what was made ahead does not count.

    Of several shards all hosts must ask at once: each tells the others where its own stand.
    """
    mine = saved(self._snapshots, self._cut.shards)
    every = joined([mine] if self._cut.shards == 1 else self._gather(mine))
    return {"of": self._identity, "batches": self._given, **every}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Goes on after the batch at which `state` was taken.

    The number of hosts, the size of a batch and the depth of prefetch may differ.

    Raises:
      UserError: the state is damaged, or of other data: another mixture, rate, split, objective,
        length, seed, number of shards, or other examples.
    """
    try:
      told, given, snapshots = dict(state["of"]), int(state["batches"]), read(state)
    except (KeyError, TypeError, ValueError) as e:
      raise UserError(f"the saved data state is damaged ({type(e).__name__}: {e})") from e
    for name in {**self._identity, **told}:
      if told.get(name) != self._identity.get(name):
        raise UserError(
          f"the saved data state is of other data: {name} was {told.get(name)} and is now "
          f"{self._identity.get(name)}; set it back, or start from a checkpoint without its data"
        )
    self.close()
    try:
      self._rows.restore(snapshots)
    except KeyError as e:
      raise UserError(f"the saved data state is damaged: it lacks shard {e}") from e
    self._made = self._given = given
    self._snapshots, self._ahead = self._rows.snapshot(), None

  def proportions(self) -> dict[str, dict[str, float]]:
    """For each task what was drawn up to the last batch, exactly, of the shards that are read here.

    Returns:
      task → `rate` (its share by the mixture's rates), `realised` (its share of the examples),
      `examples` and `tokens` (as the rows hold them, sentinels and ends included).
    """
    drawn = counts(self._snapshots)
    total = sum(examples for examples, _ in drawn.values())
    return {
      name: {
        "rate": self._rates[name],
        "realised": examples / total if total else 0.0,
        "examples": examples,
        "tokens": tokens,
      }
      for name, (examples, tokens) in drawn.items()
    }

  def close(self) -> None:
    """Ends the thread; only `restore` makes this object usable again."""
    if self._ahead is not None:
      self._ahead.close()

  def _make(self) -> _Ready | None:
    """The next batch; in the thread."""
    if self._cut.limit is not None and self._made >= self._cut.limit:
      return None
    rows = self._rows.take(self._cut.each)
    if not rows:
      return None
    own = self._cut.own
    batch = self._layout.assemble(rows[own], own.stop - own.start)
    for name, values in batch.items():
      if name.endswith("_tokens") and values.max() >= self._vocab_size:
        raise UserError(
          f"{name} holds the id {values.max()}, and the vocabulary ends at {self._vocab_size - 1}: "
          "the token cache is damaged; delete the folder tokens/ in MTM_CACHE"
        )
    self._made += 1
    return _Ready(batch, self._made, self._rows.snapshot())
