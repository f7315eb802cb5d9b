"""Axial positions (Reformer, 2001.04451): a long row of positions folded into a grid."""

from __future__ import annotations

import math

import jax.numpy as jnp

from mtm.errors import UserError
from mtm.parts.linear import Embed, Initializer, normal
from mtm.parts.positions._base import Position


class Axial(Position):
  """Adds a vector whose parts come from one small table for each axis of a grid.

  Position p stands in row ⌊p / n₂⌋ and column p mod n₂ of an n₁ × n₂ grid, and likewise with more
  axes: 128 + 512 vectors tell 65,536 positions apart.

  Attributes:
    shape: the grid; its product is the longest sequence.
    widths: features that each axis gives; they sum to the embedding size.
    weight_init: initialiser of the tables.
  """

  shape: tuple[int, ...]
  widths: tuple[int, ...]
  weight_init: Initializer = normal(1.0)

  def setup(self) -> None:
    if len(self.shape) != len(self.widths):
      raise UserError(
        f"an axial grid of shape {self.shape} needs one width for each axis, not {self.widths}"
      )
    self.tables = [
      Embed(size, width, ("abspos_buckets", "embed"), self.weight_init)
      for size, width in zip(self.shape, self.widths, strict=True)
    ]

  def embed(self, x, positions):
    if sum(self.widths) != x.shape[-1]:
      raise UserError(
        f"axial widths {self.widths} sum to {sum(self.widths)}, and the embedding has"
        f" {x.shape[-1]} features: choose widths that sum to it"
      )
    parts = []
    for axis, table in enumerate(self.tables):
      below = math.prod(self.shape[axis + 1 :])
      parts.append(table(positions // below % self.shape[axis]))
    return x + jnp.concatenate(parts, axis=-1).astype(x.dtype)


EXAMPLES = [Axial((4, 8), (8, 16)), Axial((3, 2, 4), (10, 8, 6))]
