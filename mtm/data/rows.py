"""Examples of several tasks become packed rows, in a sequence that can be taken up anywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mtm.data._random import Draws
from mtm.data.features import Piece, Source
from mtm.data.mixing import Mixing
from mtm.data.packing import Packer
from mtm.data.pool import Pool
from mtm.data.preprocessors._base import Preprocessor, Tokens
from mtm.data.streams import Example, Stream
from mtm.errors import UserError


@dataclasses.dataclass(frozen=True)
class Feed:
  """One task of a mixture.

  Attributes:
    name: of the task.
    rate: in the mixture, above 0.
    stream: its examples.
    tokens: facts of its vocabulary.
    draws: its random numbers.
  """

  name: str
  rate: float
  stream: Stream
  tokens: Tokens
  draws: Draws


class Snapshot(NamedTuple):
  """Everything that decides the rows still to come.

  Attributes:
    choices: examples drawn from the mixture.
    given: rows given out.
    streams: see `Stream.state`, by task.
    ready, closed, open: rows to choose from, further packed rows, and rows that are being packed,
      as the sources of their pieces: the pieces themselves are made again.
  """

  choices: int
  given: int
  streams: dict[str, tuple[int, int, int, int]]
  ready: list[list[Source]]
  closed: list[list[Source]]
  open: list[list[Source]]


class Rows:
  """The packed rows of a mixture.

  Args:
    feeds: its tasks.
    mixing: chooses among them.
    preprocessor: makes pieces of examples.
    pack: see `Packer`.
    pool: shuffles the rows.
  """

  def __init__(
    self,
    feeds: Sequence[Feed],
    mixing: Mixing,
    preprocessor: Preprocessor,
    pack: bool,
    pool: Pool,
  ) -> None:
    self._feeds, self._mixing, self._preprocessor, self._pack = feeds, mixing, preprocessor, pack
    self._choices = 0
    self._packer = self._new_packer()
    self._pool = pool

  def take(self, count: int) -> list[list[Piece]]:
    """The next `count` rows; fewer, or none, at the end of the data."""
    rows: list[list[Piece]] = []
    while len(rows) < count and self._fill():
      rows.append(self._pool.give())
    return rows

  def _fill(self) -> bool:
    """Packs until the pool is full or the data end; False where nothing is left."""
    closed = self._packer.closed
    while not self._pool.full:
      if closed:
        self._pool.add(closed.popleft())
        continue
      live = tuple(feed.stream.live for feed in self._feeds)
      if any(live):
        self._add(self._mixing.choose(self._choices, live))
        self._choices += 1
      elif self._packer.open:
        self._packer.flush()
      else:
        break
    return len(self._pool) > 0

  def snapshot(self) -> Snapshot:
    """Where it stands."""
    return Snapshot(
      self._choices,
      self._pool.given,
      {feed.name: feed.stream.state() for feed in self._feeds},
      list(self._pool.sources),
      [_sources(row) for row in self._packer.closed],
      [_sources(row) for row in self._packer.open],
    )

  def restore(self, snapshot: Snapshot) -> None:
    """Goes to where `snapshot` was taken; reads again the examples of its rows.

    Raises:
      UserError: they are not there.
    """
    self._choices = snapshot.choices
    held = snapshot.ready + snapshot.closed + snapshot.open
    pieces = self._pieces_of([source for row in held for source in row])
    self._packer = self._new_packer()
    ready = [[pieces[source] for source in row] for row in snapshot.ready]
    self._pool.restore(snapshot.given, ready)
    self._packer.closed.extend([pieces[source] for source in row] for row in snapshot.closed)
    for sources in snapshot.open:
      row = [pieces[source] for source in sources]
      self._packer.reopen(row, [self._preprocessor.layout.sizes(p.columns) for p in row])
    for feed in self._feeds:
      feed.stream.restore(*snapshot.streams[feed.name])

  def _new_packer(self) -> Packer:
    return Packer(tuple(self._preprocessor.layout.lengths.values()), self._pack)

  def _add(self, task: int) -> None:
    """Packs the next example of a task, if it has one."""
    stream = self._feeds[task].stream
    found = stream.next()
    if found is None:
      return
    epoch, number, example = found
    total = 0
    for piece in self._pieces(task, epoch, number, example):
      sizes = self._preprocessor.layout.sizes(piece.columns)
      self._packer.add(piece, sizes)
      total += sum(sizes)
    stream.count(total)

  def _pieces(self, task: int, epoch: int, number: int, example: Example) -> list[Piece]:
    """The pieces of an example: a function of the arguments and the seed."""
    feed = self._feeds[task]
    rng = feed.draws.at(0 if self._preprocessor.static else epoch, number)
    made = self._preprocessor.pieces(example, feed.tokens, rng)
    return [Piece((task, epoch, number, i), columns) for i, columns in enumerate(made)]

  def _pieces_of(self, sources: list[Source]) -> dict[Source, Piece]:
    """Makes pieces again."""
    found: dict[Source, Piece] = {}
    for task, feed in enumerate(self._feeds):
      wanted = {(epoch, number) for of, epoch, number, _ in sources if of == task}
      examples = feed.stream.reader.fetch({number for _, number in wanted})
      for epoch, number in wanted:
        if number in examples:
          for piece in self._pieces(task, epoch, number, examples[number]):
            found[piece.source] = piece
    if not found.keys() >= set(sources):
      raise UserError("the saved data state names examples that are not there: the data changed")
    return found


def _sources(row: list[Piece]) -> list[Source]:
  return [piece.source for piece in row]


def to_json(snapshot: Snapshot) -> dict[str, Any]:
  """A snapshot as JSON-able values."""
  return {
    "choices": snapshot.choices,
    "given": snapshot.given,
    "streams": {name: list(state) for name, state in snapshot.streams.items()},
    **{part: _listed(getattr(snapshot, part)) for part in _HELD},
  }


def from_json(state: Mapping[str, Any]) -> Snapshot:
  """The inverse of `to_json`."""
  streams = {name: tuple(map(int, values)) for name, values in state["streams"].items()}
  ready, closed, open_ = (
    [[tuple(map(int, source)) for source in row] for row in state[part]] for part in _HELD
  )
  return Snapshot(
    int(state["choices"]), int(state["given"]), streams, ready, closed, open_  # type: ignore
  )  # fmt: skip


_HELD = ("ready", "closed", "open")


def _listed(rows: list[list[Source]]) -> list[list[list[int]]]:
  return [[list(source) for source in row] for row in rows]
