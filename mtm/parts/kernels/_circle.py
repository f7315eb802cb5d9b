"""Who holds which part of a sequence that devices share, and which parts see which: for `ring`."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from mtm import axes
from mtm.parts.patterns._algebra import EMPTY, Pattern
from mtm.parts.patterns._tiles import tiles

_WORTH = 0.75  # folding sends everything twice more: it must save a quarter


@dataclasses.dataclass(frozen=True, eq=False)
class Circle:
  """A sequence in chunks, one or two a device; keys are looked at in pieces of a chunk.

  Attributes:
    length: all places.
    ways: devices.
    chunks: of a device.
    folded: whether device d has the chunks d and 2 · ways − 1 − d, and not neighbouring ones.
    piece_size: places in a piece.
    seen: bool `[chunks of all, pieces of all]`, which pieces any query of a chunk sees.
    steps: the turns of the circle at which any device has work, 0 and others in order. At turn r a
      device has the keys of the one r places before it.
  """

  length: int
  ways: int
  chunks: int
  folded: bool
  piece_size: int
  seen: np.ndarray
  steps: tuple[int, ...]

  @property
  def chunk_size(self) -> int:
    """Places in a chunk."""
    return self.length // (self.ways * self.chunks)

  @property
  def pieces(self) -> int:
    """Pieces in a chunk."""
    return self.chunk_size // self.piece_size

  @property
  def share(self) -> float:
    """Which share of all pairs a device's time is worth: at each turn all wait for the busiest."""
    return float(_work(self.seen, self.ways, self.folded).max(axis=1).sum() / self.seen.size)

  def work(self) -> np.ndarray:
    """How many pairs of a chunk and a piece each device looks at, `[turns, devices]`."""
    return _work(self.seen, self.ways, self.folded)

  def piece(
    self, me: jax.Array, chunk: int, owner: jax.Array, its_chunk: jax.Array, within: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The places of the queries of a chunk of device `me` and of the keys of a piece of a chunk of
    `owner`, int32 `[queries]` and `[keys]`; and whether any see any."""
    mine = self._number(me, jnp.int32(chunk))
    piece = self._number(owner, its_chunk) * self.pieces + within
    q_place = mine * self.chunk_size + jnp.arange(self.chunk_size, dtype=jnp.int32)
    k_place = piece * self.piece_size + jnp.arange(self.piece_size, dtype=jnp.int32)
    return q_place, k_place, jnp.asarray(self.seen)[mine, piece]

  def _number(self, device: jax.Array, chunk: jax.Array) -> jax.Array:
    if not self.folded:
      return self.chunks * device + chunk
    return jnp.where(chunk == 0, device, 2 * self.ways - 1 - device)

  def fold(self, x: jax.Array) -> jax.Array:
    """This device's places `[batch, own length, ...]`, which lie one after another, as its chunks
    `[batch, chunks, chunk, ...]`."""
    if not self.folded:
      return x.reshape(x.shape[0], self.chunks, self.chunk_size, *x.shape[2:])
    everybody = axes.peers("length")
    first, second = jnp.split(x, 2, axis=1)
    even = everybody.send(first, self._homes(0))
    odd = everybody.send(second, self._homes(1))
    return jnp.stack(self._ordered(even, odd), axis=1)

  def unfold(self, x: jax.Array) -> jax.Array:
    """The inverse of `fold`."""
    if not self.folded:
      return x.reshape(x.shape[0], -1, *x.shape[3:])
    everybody = axes.peers("length")
    even, odd = self._ordered(x[:, 0], x[:, 1])
    first = everybody.send(even, np.argsort(self._homes(0)).tolist())
    second = everybody.send(odd, np.argsort(self._homes(1)).tolist())
    return jnp.concatenate([first, second], axis=1)

  def _homes(self, half: int) -> list[int]:
    """Where each device's chunk 2 · device + half lives."""
    numbers = [2 * device + half for device in range(self.ways)]
    return [n if n < self.ways else 2 * self.ways - 1 - n for n in numbers]

  def _ordered(self, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of a device's two chunks one has an even number: the first on even devices."""
    even = axes.peers("length").index() % 2 == 0
    return jnp.where(even, a, b), jnp.where(even, b, a)


@functools.lru_cache(maxsize=64)
def circle(pattern: Pattern, length: int, ways: int, block: int) -> Circle:
  """The arrangement of chunks with which the busiest devices wait least.

  Args:
    pattern: a positional one.
    length: places, a multiple of `ways`.
    ways: devices.
    block: places in a piece, at most.
  """
  chunks = 1 if ways == 1 or length % (2 * ways) else 2
  plain = _arranged(pattern, length, ways, block, chunks, False)
  if chunks == 1:
    return plain
  folded = _arranged(pattern, length, ways, block, chunks, True)
  return folded if folded.share < _WORTH * plain.share else plain


def _arranged(
  pattern: Pattern, length: int, ways: int, block: int, chunks: int, folded: bool
) -> Circle:
  count = ways * chunks
  chunk = length // count
  size = max(n for n in range(1, min(block, chunk) + 1) if chunk % n == 0)
  looked_at = tiles(pattern, length, length, size).map != EMPTY
  seen = looked_at.reshape(count, chunk // size, -1).any(axis=1)
  work = _work(seen, ways, folded)
  steps = tuple(step for step in range(ways) if step == 0 or work[step].any())
  return Circle(length, ways, chunks, folded, size, seen, steps)


def _work(seen: np.ndarray, ways: int, folded: bool) -> np.ndarray:
  """How many pairs of a chunk and a piece each device looks at, `[turns, devices]`."""
  count = len(seen)
  pairs = seen.reshape(count, count, -1).sum(axis=2)  # of chunks
  chunk = np.arange(count)
  device = np.where(chunk < ways, chunk, 2 * ways - 1 - chunk) if folded else chunk * ways // count
  work = np.zeros((ways, ways), int)
  turn = (device[:, None] - device[None]) % ways
  np.add.at(work, (turn, np.broadcast_to(device[:, None], turn.shape)), pairs)
  return work
