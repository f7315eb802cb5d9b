"""What every format of checkpoints gives: a model to build, and tensors to fill it with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from mtm import axes
from mtm.families._names import Row
from mtm.interop import tree
from mtm.types import Model, Params


@dataclasses.dataclass(frozen=True)
class Moments:
  """The state of an Adafactor, to train on with.

  Attributes:
    step: how many steps were taken.
    of: path of a parameter of ours → its second moments, of each layer as a matrix with joined
      heads: one array of the matrix's shape, or two, averages along its rows and along its columns.
    refused: why the state cannot be taken over, a clause; nothing: it can.
  """

  step: int
  of: Callable[[str], tuple[np.ndarray, ...]]
  refused: str = ""


@dataclasses.dataclass(frozen=True)
class Foreign:
  """A checkpoint of another library, opened: nothing but headers was read.

  Attributes:
    where: its path.
    build, arguments: `build(**arguments)` is the model.
    source: its tensors.
    rows: the name table.
    ignored, copies: see `mtm.interop.tree.read`.
    begin_id: the id that a decoder is fed first; None: its prompt begins with a token of its own,
      or beside an encoder nobody says what.
    eos_id: the id that ends a sequence, or several any of which does, or None.
    pad_id: the id that pads, or None.
    bos_id: the id that begins a text of a decoder alone, or None.
    prefix: whether a decoder alone reads its prompt in both directions.
    counted: whether an encoder's positions count the tokens that are no padding.
    generation: what it says of generating besides, JSON-able, such as `min_length`.
    files: what must travel along to write the checkpoint back: name → path.
    layout: what else must be known for that, JSON-able.
    moments: reads the optimizer's state; None where the checkpoint has none that mtm knows.
  """

  where: str
  build: Callable[..., Model]
  arguments: dict[str, Any]
  source: tree.Source
  rows: Sequence[Row]
  ignored: tuple[str, ...] = ()
  copies: Mapping[str, str] = dataclasses.field(default_factory=dict)
  begin_id: int | None = None
  eos_id: int | tuple[int, ...] | None = None
  pad_id: int | None = 0
  bos_id: int | None = None
  prefix: bool = False
  counted: bool = False
  generation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
  layout: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  moments: Callable[[], Moments] | None = None

  def model(self, **changes: Any) -> Model:
    """The model, with some of the builder's arguments replaced."""
    return self.build(**{**self.arguments, **changes})

  def params(self, model: Model, place: tree.Place, empty: tree.Empty = np.empty) -> Params:
    """The parameters; `place` makes a leaf of a path and its values, see `tree.read`."""
    like = shapes(model)
    return tree.read(self.source, self.rows, like, place, self.ignored, self.copies, empty)


class Format(Protocol):
  """A format. A module of this package that is one ends with `FORMAT = ...`.

  Attributes:
    name: what `mtm convert --to` calls it.
    optimizer: whether it holds the state of an optimizer too.
  """

  name: str
  optimizer: bool

  def found(self, path: Path) -> bool:
    """Whether a checkpoint of this format lies there."""

  def open(self, path: Path) -> Foreign:
    """The checkpoint. Raises UserError where it is damaged or cannot be honoured."""

  def write(self, path: Path, export: Export) -> int:
    """Writes a checkpoint and returns how many values it has. Raises UserError where the format
    cannot hold the model."""


@dataclasses.dataclass(frozen=True)
class Export:
  """What a format is asked to write.

  Attributes:
    build, arguments: what made the model, all arguments.
    params: nested dict of numpy or JAX arrays.
    source: the directory with the files and `layout.json` that an import kept, or None.
    vocabulary: the directory of the vocabulary, or None.
    begin_id, eos_id: what the model was trained with here, see `Foreign`; None where `source` says.
    moments: the state of the optimizer, which can be taken over, or None.
  """

  build: Callable[..., Model]
  arguments: dict[str, Any]
  params: Params
  source: Path | None = None
  vocabulary: Path | None = None
  begin_id: int | None = None
  eos_id: int | tuple[int, ...] | None = None
  moments: Moments | None = None


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
  """The path and shape of every parameter."""
  length = min(8, model.max_length or 8)
  batch = {name: np.zeros((1, length), np.int32) for name in model.inputs}
  with axes.use(None):
    params = jax.eval_shape(model.init, jax.random.key(0), batch)
  return {path: tuple(leaf.shape) for path, leaf in tree.flatten(params).items()}
