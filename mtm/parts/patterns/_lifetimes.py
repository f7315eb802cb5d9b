"""For how long a token can still be seen: which keys a decoder has to remember.

A token's slot is free again when no later query sees it. Under a window the slots form a ring; the
Sparse Transformer's fixed pattern keeps its summaries and the block at hand; global tokens stay.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq

import numpy as np

from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns._tiles import tiles
from mtm.parts.patterns.causal import Causal

_BLOCK = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Lifetimes:
  """Where a decoder of up to `len(last)` tokens keeps its keys.

  Attributes:
    slots: how many keys are ever needed at the same time.
    slot: int32 `[length]`, the slot of each place; `slots` for one that no later query sees.
    last: int32 `[length]`, the last query that sees each place.
  """

  slots: int
  slot: np.ndarray
  last: np.ndarray


@functools.lru_cache(maxsize=64)
def lifetimes(pattern: Pattern, length: int) -> Lifetimes | None:
  """The lifetimes of keys under a pattern that all heads have; None if labels decide who sees whom.

  Queries come in order, each when all before it are there.
  """
  if not pattern.positional:
    return None
  last = _last(pattern & Causal(), length)
  slot = np.empty(length, np.int32)
  free: list[int] = []
  ends: list[tuple[int, int]] = []  # of the tokens kept: the last query, the slot
  count = 0
  for place in range(length):
    while ends and ends[0][0] < place:
      heapq.heappush(free, heapq.heappop(ends)[1])
    if not free:
      free.append(count)
      count += 1
    slot[place] = heapq.heappop(free)  # the token is there at least while its own query runs
    heapq.heappush(ends, (max(int(last[place]), place), int(slot[place])))
  return Lifetimes(count, slot, last.astype(np.int32))


def _last(pattern: Pattern, length: int) -> np.ndarray:
  """The last query that sees each key, −1 for none: int `[length]`."""
  cut = tiles(pattern, length, length, _BLOCK)
  within = np.arange(_BLOCK)
  of_mask = np.where(cut.masks, within[:, None], -1).max(axis=1)  # [masks, keys]
  own = of_mask[cut.mask_id]
  own = np.where(own >= 0, own + cut.row[:, None] * _BLOCK, -1)
  last = np.full((cut.map.shape[1], _BLOCK), -1)
  np.maximum.at(last, cut.column, own)
  return np.minimum(last.reshape(-1)[:length], length - 1)
