"""SeqIO sources over Python records, and the way back for what went wrong inside them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mtm.data._tensorflow import seqio, tensorflow
from mtm.errors import UserError

Record = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where the examples of a task come from.

  Attributes:
    records: split → its examples, always in the same order.
    splits: the splits that exist.
    keys: the fields of every example.
    label: what `mtm tasks` calls it.
    version: changes when what `records` gives does, unless that shows in their own fields.
    size: tells how many examples a split has; None: they are counted.
  """

  records: Callable[[str], Iterator[Record]]
  splits: Sequence[str]
  keys: Sequence[str]
  label: str
  version: str = ""
  size: Callable[[str], int] | None = None

  def streamed(self, split: str) -> Any:
    """A `tf.data.Dataset` that asks for one example at a time."""
    tf = tensorflow()
    signature = {key: tf.TensorSpec((), tf.string) for key in self.keys}
    return tf.data.Dataset.from_generator(lambda: self.records(split), output_signature=signature)

  def held(self, split: str) -> Any:
    """A `tf.data.Dataset` of all examples, in memory."""
    rows = list(self.records(split))
    columns = {key: [row[key] for row in rows] for key in self.keys}
    return tensorflow().data.Dataset.from_tensor_slices(columns)


def source(origin: Origin, dataset: Callable[[str], Any]) -> Any:
  """A SeqIO source whose `origin` tells `mtm tasks` and the token cache what it reads.

  Args:
    origin: the examples.
    dataset: `origin.streamed`, or `origin.held` for what fits in memory.
  """

  def read(split: str, shuffle_files: bool = False, seed: int | None = None) -> Any:
    del shuffle_files, seed  # one file at most: the order of examples is the pipeline's business
    return dataset(split)

  base: Any = seqio().FunctionDataSource

  @functools.cache
  def count(split: str) -> int:
    return origin.size(split) if origin.size else sum(1 for _ in origin.records(split))

  class Records(base):
    """Does not warn of poor shuffling: there are no shards to shuffle."""

    def __init__(self) -> None:
      super().__init__(read, origin.splits)
      self.records, self.label, self.version = origin.records, origin.label, origin.version

    def get_dataset(self, split: str = "train", *unused: Any, **ignored: Any) -> Any:
      return read(split)

    def num_input_examples(self, split: str) -> int:
      """Asked for by mixtures whose rates are sizes; where nobody tells, all are read, once."""
      return count(split)

  return Records()


@contextlib.contextmanager
def told_plainly() -> Iterator[None]:
  """Turns TensorFlow's report of a UserError inside a dataset back into that UserError."""
  try:
    yield
  except tensorflow().errors.OpError as e:
    found = re.search(r"UserError: (.*)", str(e))
    if not found:
      raise
    raise UserError(found.group(1)) from None
