"""Mixing: which task gives the next example."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtm.data._random import Uniforms, named


class Mixing:
  """Draws tasks in proportion to their rates; a pure function of the seed and a counter.

  Args:
    rates: of the tasks, above 0; they need not add up to 1.
    seed: the data set's.
    shard: the number of the shard that draws, and how many there are.
  """

  def __init__(self, rates: Sequence[float], seed: int, shard: tuple[int, int] = (0, 1)) -> None:
    self._rates = np.asarray(rates, np.float64)
    self._uniforms = Uniforms(seed, named("mixing", shard))
    self._borders: dict[tuple[bool, ...], np.ndarray] = {}

  def choose(self, counter: int, live: tuple[bool, ...]) -> int:
    """The number of the task that gives example `counter`, of those that are `live`.

    A task that has ended is left out, and the others keep their proportions.
    """
    if live not in self._borders:
      self._borders[live] = self._ends(live)
    return int(np.searchsorted(self._borders[live], self._uniforms[counter], side="right"))

  def _ends(self, live: tuple[bool, ...]) -> np.ndarray:
    """Upper ends of the tasks' shares of [0, 1); the last one alive ends at infinity."""
    rates = self._rates * live
    borders = np.cumsum(rates) / rates.sum()
    borders[np.flatnonzero(rates)[-1] :] = np.inf  # whatever rounding did
    return borders
