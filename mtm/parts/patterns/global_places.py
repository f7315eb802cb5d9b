"""Some places see all and are seen by all."""

from __future__ import annotations

import dataclasses

import numpy as np

from mtm.parts.patterns._algebra import Pattern, by_flag, look_up
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.window import Window


@dataclasses.dataclass(frozen=True)
class Global(Pattern):
  """Query or key is global: Longformer (2004.05150), BigBird (2007.14062), ETC (2004.08483).

  Attributes:
    places: how many of the first places are global, or which places.
  """

  places: int | tuple[int, ...]

  def mask(self, q, k):
    return self._is(q) | self._is(k)

  def coarse(self, q_len, k_len, block):
    of_query, of_key = (
      np.asarray(self._is(np.arange(-(-length // block) * block))) for length in (q_len, k_len)
    )
    return by_flag(of_query, of_key, block)

  def _is(self, place):
    if isinstance(self.places, int):
      return (place >= 0) & (place < self.places)
    table = np.zeros(max(self.places, default=0) + 1, bool)
    table[list(self.places)] = True
    return look_up(table, place)


EXAMPLES = [Global(2), Global((0, 5)), Causal() & (Window(1, 0) | Global(1))]
