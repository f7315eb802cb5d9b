"""The examples of a task in the order of an epoch, from the cache or straight from the source."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np

from mtm.data._random import named, permuted
from mtm.data.cached import TokenCache
from mtm.errors import UserError

Shard = tuple[int, int]  # the number i of a shard, and how many there are, n
Example = Mapping[str, np.ndarray]  # feature → int32 [length]
BLOCK = 1024  # examples: permuted at a time; shuffled among each other in a stream


class Reader(Protocol):
  """A task's examples, each with its number in the source."""

  digest: str

  def walk(self, epoch: int, position: int) -> Iterator[tuple[int, Example]]:
    """The epoch's examples from the `position`-th on."""

  def fetch(self, numbers: Iterable[int]) -> dict[int, Example]:
    """Some examples by number."""

  def dealt(self, shard: Shard) -> Reader:
    """A reader of every n-th example of these alone, from the i-th on."""


class CachedReader:
  """Reads a cache, every epoch in another order of the whole.

  Args:
    cache: the tokens.
    name: of the task: tasks of one seed have different orders.
    seed: None: the order of the source.
    shard: of that order; no other example is read.
  """

  def __init__(self, cache: TokenCache, name: str, seed: int | None, shard: Shard = (0, 1)) -> None:
    self._cache, self._name, self._seed = cache, name, seed
    self._first, self._step = shard
    self.digest = cache.digest

  def walk(self, epoch: int, position: int) -> Iterator[tuple[int, Example]]:
    """See `Reader.walk`."""
    size, block = len(self._cache), BLOCK * self._step
    for start in range(self._first + position * self._step, size, block):
      cut = start, min(start + block, size), self._step
      for number in _order(size, *cut, self._seed, f"{self._name}/{epoch}"):
        yield number, self._cache.example(number)

  def fetch(self, numbers: Iterable[int]) -> dict[int, Example]:
    """See `Reader.fetch`."""
    return {number: self._cache.example(number) for number in numbers}

  def dealt(self, shard: Shard) -> CachedReader:
    """See `Reader.dealt`."""
    return CachedReader(self._cache, self._name, self._seed, shard)


class DirectReader:
  """Reads the source itself, from the beginning in every epoch; blocks of examples are shuffled.

  Going on in the middle skips what came before, so the source must always give the same.

  Args:
    examples: starts reading the source.
    name, seed: see `CachedReader`.
    shard: of the source's order: all of it is read, and the rest is passed over.
  """

  digest = ""  # nobody has read it all

  def __init__(
    self,
    examples: Callable[[], Iterator[Example]],
    name: str,
    seed: int | None,
    shard: Shard = (0, 1),
  ) -> None:
    self._examples, self._name, self._seed = examples, name, seed
    self._first, self._step = shard

  def walk(self, epoch: int, position: int) -> Iterator[tuple[int, Example]]:
    """See `Reader.walk`."""
    start = position - position % BLOCK
    source = itertools.islice(self._examples(), self._first + start * self._step, None, self._step)
    while block := list(itertools.islice(source, BLOCK)):
      name = f"{named(self._name, (self._first, self._step))}/{epoch}/{start}"
      for i in _order(len(block), max(position - start, 0), len(block), 1, self._seed, name):
        yield self._first + (start + i) * self._step, block[i]
      start += len(block)

  def fetch(self, numbers: Iterable[int]) -> dict[int, Example]:
    """See `Reader.fetch`: reads up to the last of them."""
    wanted = set(numbers)
    source = itertools.islice(self._examples(), max(wanted, default=-1) + 1)
    return {i: example for i, example in enumerate(source) if i in wanted}

  def dealt(self, shard: Shard) -> DirectReader:
    """See `Reader.dealt`."""
    return DirectReader(self._examples, self._name, self._seed, shard)


def _order(size: int, start: int, stop: int, step: int, seed: int | None, name: str) -> list[int]:
  if seed is None:
    return list(range(start, stop, step))
  return permuted(size, start, stop, seed, f"order/{name}", step).tolist()


class Stream:
  """Reads epochs one after the other, and counts.

  Attributes:
    epoch, position: of the next example; the position is that in the epoch's order.
    examples, tokens: given out so far, tokens as the rows hold them.
  """

  def __init__(self, name: str, split: str, reader: Reader, num_epochs: int | None) -> None:
    self._of, self._num_epochs = (name, split), num_epochs
    self.reader = reader
    self.restore(0, 0, 0, 0)

  def dealt(self, shard: Shard) -> Stream:
    """A stream of a shard of these examples, from its beginning."""
    return Stream(*self._of, self.reader.dealt(shard), self._num_epochs)

  @property
  def live(self) -> bool:
    """Whether there may be an example left."""
    return self._num_epochs is None or self.epoch < self._num_epochs

  def state(self) -> tuple[int, int, int, int]:
    """What `restore` takes."""
    return self.epoch, self.position, self.examples, self.tokens

  def restore(self, epoch: int, position: int, examples: int, tokens: int) -> None:
    """Goes to where `state` was taken."""
    self.epoch, self.position, self.examples, self.tokens = epoch, position, examples, tokens
    self._walk: Iterator[tuple[int, Example]] | None = None
    self._fruitful = position > 0

  def next(self) -> tuple[int, int, Example] | None:
    """Epoch, number and example; None when the stream ends, or at the end of an epoch.

    Raises:
      UserError: a whole epoch held no example, or no token.
    """
    if self._walk is None:
      self._walk = self.reader.walk(self.epoch, self.position)
    found = next(self._walk, None)
    if found is not None:
      self.position += 1
      return self.epoch, *found
    if not self._fruitful:
      what = "no text in any example" if self.position else "no example"
      name, split = self._of
      raise UserError(f"task {name!r}, split {split!r}: the dataset is empty, there is {what}")
    self.epoch, self.position = self.epoch + 1, 0
    self._walk, self._fruitful = None, False
    return None

  def count(self, tokens: int) -> None:
    """Notes what the last example gave."""
    self.examples += 1
    self.tokens += tokens
    self._fruitful = self._fruitful or tokens > 0
