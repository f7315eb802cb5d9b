"""Rows of pieces become a batch: the features of T5X and SeqIO, `[batch, length]` int32."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Number of the task, epoch, number of the example, number of the piece in it.
Source = tuple[int, int, int, int]


class Piece(NamedTuple):
  """A stretch of one example that stays together in one row.

  Attributes:
    source: where it came from.
    columns: its values, `[tokens of that side]` each, in the order of `Layout.columns`.
  """

  source: Source
  columns: tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
  """Which features a batch has.

  Every side gets `<side>_positions` (restarting in every piece) and `<side>_segment_ids` (1, 2, ...
  along a row; 0 at padding). A side with target tokens also gets, unless they are columns,
  `<side>_input_tokens` (the targets shifted right within their piece, `begin_id` first) and
  `<side>_loss_weights` (1 at every target).

  Attributes:
    lengths: side ("encoder", "decoder") → tokens a row.
    columns: features that pieces bring along; the first one of a side tells its length.
    begin_id: what the input tokens of a piece begin with, where they are its shifted targets.
    domains: the label of each task, by its number in a `Source`: every side also gets
      `<side>_domain`, -1 at padding; None: no such feature.
  """

  lengths: Mapping[str, int]
  columns: tuple[str, ...]
  # Not shown: what is made of examples does not depend on it.
  begin_id: int = dataclasses.field(default=0, repr=False, kw_only=True)
  domains: tuple[int, ...] | None = dataclasses.field(default=None, repr=False, kw_only=True)

  def features(self) -> dict[str, int]:
    """Feature name → tokens a row."""
    found = {}
    for side, length in self.lengths.items():
      names = [name for name in self.columns if name.startswith(f"{side}_")]
      if f"{side}_target_tokens" in names:
        names += [f"{side}_input_tokens", f"{side}_loss_weights"]
      names += [f"{side}_positions", f"{side}_segment_ids"]
      names += [f"{side}_domain"] if self.domains is not None else []
      found.update(dict.fromkeys(names, length))
    return found

  def shapes(self, batch_size: int) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Feature name → shape `(batch_size, length)` and int32."""
    return {name: ((batch_size, n), np.dtype(np.int32)) for name, n in self.features().items()}

  def sizes(self, piece: tuple[np.ndarray, ...]) -> tuple[int, ...]:
    """How many tokens the columns of a piece take of each side."""
    return tuple(len(piece[i]) for i in self._first)

  @functools.cached_property
  def _first(self) -> list[int]:
    return [
      next(i for i, name in enumerate(self.columns) if name.startswith(f"{side}_"))
      for side in self.lengths
    ]

  def assemble(self, rows: Sequence[Sequence[Piece]], batch_size: int) -> dict[str, np.ndarray]:
    """The batch `[batch_size, length]` of these rows; rows that are lacking are padding."""
    pieces = [piece for row in rows for piece in row]
    counts = [len(row) for row in rows]
    batch: dict[str, np.ndarray] = {}
    for (side, length), first in zip(self.lengths.items(), self._first, strict=True):
      sizes = np.fromiter((len(p.columns[first]) for p in pieces), np.int64, len(pieces))
      place = _Placement.of(sizes, counts, (batch_size, length))
      for i, name in enumerate(self.columns):
        if name.startswith(f"{side}_"):
          values = [p.columns[i] for p in pieces]
          batch[name] = place.put(np.concatenate(values) if values else sizes)
      batch[f"{side}_positions"] = place.put(place.positions)
      batch[f"{side}_segment_ids"] = place.put(place.segments)
      if self.domains is not None:
        labels = np.asarray([self.domains[p.source[0]] for p in pieces], np.int64)
        batch[f"{side}_domain"] = place.put(np.repeat(labels, sizes) + 1) - 1
      targets = batch.get(f"{side}_target_tokens")
      if targets is not None and f"{side}_input_tokens" not in batch:
        shifted = np.zeros_like(targets)
        shifted[:, 1:] = targets[:, :-1]
        shifted *= batch[f"{side}_positions"] > 0
        begins = (batch[f"{side}_positions"] == 0) & (batch[f"{side}_segment_ids"] > 0)
        batch[f"{side}_input_tokens"] = np.where(begins, np.int32(self.begin_id), shifted)
      if targets is not None and f"{side}_loss_weights" not in batch:
        batch[f"{side}_loss_weights"] = (batch[f"{side}_segment_ids"] > 0).astype(np.int32)
    return batch


@dataclasses.dataclass(frozen=True)
class _Placement:
  """Where the tokens of a batch's pieces, one after the other, lie in it.

  Attributes:
    shape: `(batch, length)`.
    index: flat index of every token, int64 `[tokens]`.
    positions: of every token in its piece, `[tokens]`.
    segments: number of every token's piece in its row, from 1, `[tokens]`.
  """

  shape: tuple[int, int]
  index: np.ndarray
  positions: np.ndarray
  segments: np.ndarray

  @classmethod
  def of(cls, sizes: np.ndarray, counts: Sequence[int], shape: tuple[int, int]) -> _Placement:
    """Args: tokens of each piece, pieces of each row, shape of the batch."""
    rows = np.repeat(np.arange(len(counts)), counts)
    begins = np.cumsum(sizes) - sizes  # of pieces, in the concatenation
    numbers = np.arange(len(sizes))
    first = np.cumsum(counts) - counts  # piece of each row
    # A row may be empty only if it is padding, and then nothing is repeated for it.
    row_begins = np.concatenate([begins, [0]])[first] if len(sizes) else begins
    to_row = rows * shape[1] - (row_begins[rows] if len(sizes) else 0)
    every = np.arange(int(sizes.sum()))
    return cls(
      shape,
      every + np.repeat(to_row, sizes),
      every - np.repeat(begins, sizes),
      np.repeat(numbers - first[rows] + 1 if len(sizes) else numbers, sizes),
    )

  def put(self, values: np.ndarray) -> np.ndarray:
    """int32 `shape` with `values` `[tokens]` at their places and 0 elsewhere."""
    out = np.zeros(self.shape, np.int32)
    out.reshape(-1)[self.index] = values
    return out
