"""What random configs share: sizes that are multiples of nothing, activations, padding."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtm.decoding.mean_beam import MeanBeam
from mtm.families._published import ACTIVATIONS
from tests.parity.harness import Padding

Rng = np.random.Generator
SPREAD = 0.3  # see `harness.Case`


@dataclasses.dataclass(frozen=True)
class Sizes:
  """A model's; `length` ≤ `places` is how long its texts are."""

  heads: int
  head_dim: int
  layers: int
  mlp: int
  vocab: int
  places: int
  length: int

  @property
  def embed(self) -> int:
    """The width."""
    return self.heads * self.head_dim


def pick(rng: Rng, options: Sequence[Any]) -> Any:
  """One of the options, as it is."""
  return options[int(rng.integers(len(options)))]


def sizes(rng: Rng, even: bool = False) -> Sizes:
  """Small ones, odd numbers of heads more often than not; `even`: the sizes of heads."""
  length = int(rng.integers(5, 13))
  return Sizes(
    heads=pick(rng, (1, 2, 3, 4, 5, 7)),
    head_dim=pick(rng, (2, 4, 6) if even else (2, 3, 4, 5)),
    layers=pick(rng, (1, 2, 2)),
    mlp=int(rng.integers(5, 40)),
    vocab=int(rng.integers(23, 67)),
    places=max(8, length + int(rng.integers(0, 9))),
    length=length,
  )


def padding(rng: Rng, length: int, left: bool = True) -> Padding:
  """A full row, one that is all but one padding, and one between them, in any order; `left`: on
  either side."""
  lengths = rng.permutation([length, 1, int(rng.integers(2, length))])
  return Padding(tuple(int(x) for x in lengths), length, left and bool(rng.integers(2)))


def activation(rng: Rng) -> str:
  """The name of one that every family with a choice has."""
  return pick(rng, sorted(ACTIVATIONS))


def beams(rng: Rng) -> MeanBeam:
  """How beams are scored and when they are done."""
  return MeanBeam(3, pick(rng, (-1.0, 0.5, 1.0, 2.0)), bool(rng.integers(2)))
