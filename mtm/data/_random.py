"""Random numbers by address: every draw is a function of what it is for, never of what came before.

So an example's mask, a task's order and the choice of the next task are the same after a restore,
for any batch size, number of hosts and depth of prefetch.
"""

from __future__ import annotations

import hashlib

import numpy as np

ROUNDS = 8  # of the Feistel network: four are enough for security, more help tiny domains
BLOCK = 1024  # uniforms drawn at a time


class Draws:
  """Generators for the examples of one task, by Philox (Salmon et al. 2011).

  Args:
    seed: the data set's.
    name: separates the tasks, and the uses, of one seed.
  """

  def __init__(self, seed: int, name: str) -> None:
    self._philox = np.random.Philox(key=_key(seed, name))
    self._generator = np.random.Generator(self._philox)
    self._state = self._philox.state

  def at(self, epoch: int, example: int) -> np.random.Generator:
    """The generator of this example in this epoch, good until the next call."""
    # Setting the counter is five times as quick as making a generator.
    self._state["state"]["counter"][:] = (0, 0, example, epoch)
    self._state["buffer_pos"] = 4
    self._state["has_uint32"] = 0
    self._philox.state = self._state
    return self._generator


class Uniforms:
  """The uniform numbers u(0), u(1), ... of a seed, in [0, 1)."""

  def __init__(self, seed: int, name: str) -> None:
    self._draws = Draws(seed, name)
    self._block = -1
    self._values = np.zeros(0)

  def __getitem__(self, counter: int) -> float:
    block, offset = divmod(counter, BLOCK)
    if block != self._block:
      self._block, self._values = block, self._draws.at(0, block).random(BLOCK)
    return float(self._values[offset])


def permuted(size: int, start: int, stop: int, seed: int, name: str, step: int = 1) -> np.ndarray:
  """`range(size)` in a pseudorandom order, from `start` to `stop` by `step`: int64, one dimension.

  A Feistel network on the next power of four, walked until it lands inside (Black & Rogaway 2002,
  "Ciphers with arbitrary finite domains"): no table, so a corpus of any size is shuffled whole.
  """
  half = max(1, -(-(size - 1).bit_length() // 2))
  keys = np.random.Generator(np.random.Philox(key=_key(seed, name))).integers(
    0, 2**63, ROUNDS, np.uint64
  )
  x = np.arange(start, stop, step, dtype=np.uint64)
  todo = np.arange(len(x))
  while len(todo):
    x[todo] = _feistel(x[todo], half, keys)
    todo = todo[x[todo] >= size]
  return x.astype(np.int64)


def named(name: str, shard: tuple[int, int]) -> str:
  """The name by which a shard (its number, and how many there are) draws; one alone has none."""
  return name if shard[1] == 1 else f"{name}/{shard[0]} of {shard[1]}"


def _feistel(x: np.ndarray, half: int, keys: np.ndarray) -> np.ndarray:
  """One pass of the network over `2 * half` bits."""
  mask = np.uint64((1 << half) - 1)
  left, right = x >> np.uint64(half), x & mask
  for key in keys:
    # The finaliser of splitmix64: all bits of its input move all bits of its output.
    z = right ^ key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    left, right = right, left ^ ((z ^ (z >> np.uint64(31))) & mask)
  return (left << np.uint64(half)) | right


def _key(seed: int, name: str) -> np.ndarray:
  """Two 64-bit words."""
  name_word = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
  return np.array([seed % 2**64, name_word], np.uint64)
