"""Labels: the names of classes become the numbers that `mtm.objectives.classification` predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mtm.data._tensorflow import seqio, tensorflow
from mtm.errors import UserError, nearest


def feature(classes: Sequence[str]) -> Any:
  """The SeqIO feature of a label: a number below the number of classes."""
  return seqio().Feature(
    seqio().PassThroughVocabulary(len(classes)), add_eos=False, dtype=tensorflow().int32, rank=0
  )


def numbered(classes: Sequence[str]) -> Callable[[Any], Any]:
  """A preprocessor that puts the number of a class where `label` has its name.

  Raises:
    UserError: there are no classes, or one twice; when examples are read: a label is none of them.
  """
  if not classes or len(set(classes)) < len(classes):
    raise UserError(f"classes = {list(classes)}: give the name of each class, once")

  def number(label: bytes) -> np.int32:
    name = label.decode(errors="replace")
    if name not in classes:
      raise UserError(f"label {name!r} is no class of the task{nearest(name, classes)}")
    return np.int32(list(classes).index(name))

  def preprocess(dataset: Any) -> Any:
    tf = tensorflow()

    def one(example: Any) -> Any:
      found = tf.numpy_function(number, [example["label"]], tf.int32)
      return {**example, "label": tf.ensure_shape(found, ())}

    return dataset.map(one)

  return preprocess
