"""SeqIO sources over Python generators, and the way back for what went wrong inside them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from mtm.data._tensorflow import seqio, tensorflow
from mtm.errors import UserError

Record = Mapping[str, str]


def source(
  records: Callable[[str], Iterator[Record]], splits: Collection[str], keys: Collection[str]
) -> Any:
  """A SeqIO source whose examples are dictionaries of strings.

  Args:
    records: split → its examples, always in the same order.
    splits: the splits that exist.
    keys: the fields of every example.
  """
  tf = tensorflow()
  signature = {key: tf.TensorSpec((), tf.string) for key in keys}

  def dataset(split: str, shuffle_files: bool = False, seed: int | None = None) -> Any:
    del shuffle_files, seed  # one stream: the task's own buffer shuffles it
    return tf.data.Dataset.from_generator(lambda: records(split), output_signature=signature)

  class Records(seqio().FunctionDataSource):
    """Does not warn of poor shuffling: there are no shards to shuffle."""

    def __init__(self) -> None:
      super().__init__(dataset, splits)
      self.records = records  # where a fingerprint of the task finds what decides its examples

    def get_dataset(self, split: str = "train", *unused: Any, **ignored: Any) -> Any:
      return dataset(split)

  return Records()


@contextlib.contextmanager
def told_plainly() -> Iterator[None]:
  """Turns TensorFlow's report of a UserError inside a generator back into that UserError."""
  try:
    yield
  except tensorflow().errors.OpError as e:
    found = re.search(r"^.*UserError: (.*)$", str(e), re.MULTILINE)
    if not found:
      raise
    raise UserError(found.group(1)) from None
