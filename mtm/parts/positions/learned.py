"""Learned absolute positions (GPT-2, BERT)."""

from __future__ import annotations

from mtm.parts.linear import Embed, Initializer, normal
from mtm.parts.positions._base import Position


class Learned(Position):
  """Adds a trained vector for each position.

  Attributes:
    length: the longest sequence.
    features: embedding size.
    offset: added to the position before the look-up (RoBERTa and BART start at 2).
    weight_init: initialiser of the table.
  """

  length: int
  features: int
  offset: int = 0
  weight_init: Initializer = normal(0.02)

  def setup(self) -> None:
    self.table = Embed(
      self.length + self.offset, self.features, ("abspos_buckets", "embed"), self.weight_init
    )

  def embed(self, x, positions):
    return x + self.table(positions + self.offset).astype(x.dtype)


EXAMPLES = [Learned(length=32, features=16)]
