"""Names of classes become numbers, through the token cache into batches."""

from __future__ import annotations

import numpy as np
import pytest

from mtm.data._tensorflow import seqio, tensorflow
from mtm.data.pipeline import Dataset
from mtm.data.sources import _labels
from mtm.errors import UserError
from mtm.objectives.classification import Classification
from tests.data import toy

CLASSES = ("dull", "good", "grand")
BEGIN, END = 7, 8


def add(name: str, rows: list[tuple[list[int], str]]) -> None:
  """Registers texts as ids, with the names of their classes."""

  def read(split: str, shuffle_files: bool) -> object:
    tf = tensorflow()
    texts = tf.ragged.constant([ids for ids, _ in rows], dtype=tf.int32, ragged_rank=1)
    return tf.data.Dataset.from_tensor_slices({"inputs": texts, "label": [n for _, n in rows]})

  seqio().TaskRegistry.add(
    name,
    source=seqio().FunctionDataSource(read, splits=["train"]),
    preprocessors=[_labels.numbered(CLASSES)],
    output_features={
      "inputs": seqio().Feature(toy.Vocabulary.get(), add_eos=False),
      "label": _labels.feature(CLASSES),
    },
  )


def batch(name: str, cached: bool, **fields: int) -> dict[str, np.ndarray]:
  objective = Classification(**{"classes": 3, "begin_id": BEGIN, "end_id": END, **fields})
  data = Dataset(name, {"inputs": 12}, batch_size=1, shuffle=False, use_cached=cached, num_epochs=1)
  return next(data.batches(objective, prefetch=0))


@pytest.mark.parametrize("cached", [False, True])
def test_texts_are_packed_and_each_first_token_has_its_class(tasks: None, cached: bool) -> None:
  add("labelled", [([11, 12, 13], "grand"), ([14, 15], "good")])
  made = batch("labelled", cached)
  np.testing.assert_array_equal(
    made["encoder_input_tokens"], [[BEGIN, 11, 12, 13, END, BEGIN, 14, 15, END, 0, 0, 0]]
  )
  np.testing.assert_array_equal(made["encoder_target_tokens"], [[2, *[0] * 4, 1, *[0] * 6]])
  np.testing.assert_array_equal(made["encoder_loss_weights"], [[1, *[0] * 4, 1, *[0] * 6]])
  np.testing.assert_array_equal(made["encoder_segment_ids"], [[1] * 5 + [2] * 4 + [0] * 3])


def test_the_vocabulary_is_that_of_the_text_and_a_class_stands_for_no_bytes(tasks: None) -> None:
  add("labelled", [([11], "good")])
  data = Dataset("labelled", None)
  assert data.vocabulary().vocab_size == toy.VOCAB
  assert data.token_bytes() is None
  assert dict(data.lengths) == {"inputs": 1, "label": 1}


def test_what_is_wrong_with_labels_is_told(tasks: None) -> None:
  add("labelled", [([11], "god")])
  with pytest.raises(UserError, match="label 'god' is no class of the task; did you mean 'good'"):
    batch("labelled", False)
  with pytest.raises(UserError, match="task 'labelled': its label has 3 classes .* set CLASSES"):
    batch("labelled", False, classes=2)
  with pytest.raises(UserError, match="give the name of each class, once"):
    _labels.numbered(["a", "a"])
