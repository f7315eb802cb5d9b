"""TFDS data sets without data: mocked examples, a tiny vocabulary, and no network."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

from mtm.data import registry
from mtm.data._tensorflow import tensorflow
from tests.data import tiny

SPLITS = ("train", "validation", "test")
LENGTHS = {"inputs": 64, "targets": 32}


@contextlib.contextmanager
def data(count: int = 3, **fields: Any) -> Iterator[None]:
  """Within it TFDS gives `count` examples, whose `fields` are these values; the rest is random."""
  tensorflow()
  import tensorflow_datasets as tfds

  def fixed(self: Any, *unused: Any, **ignored: Any) -> Any:
    tf = tensorflow()
    random = tfds.testing.mocking.RandomFakeGenerator(self.info.features, count)
    data = tf.data.Dataset.from_generator(
      lambda: ({**example, **fields} for example in random),
      output_signature=self.info.features.get_tensor_spec(),
    )
    return data.apply(tf.data.experimental.assert_cardinality(count))

  # What TFDS would read from its server: the data sets' splits.
  infos = [tfds.core.SplitInfo(name=n, shard_lengths=[count], num_bytes=0) for n in SPLITS]
  splits = tfds.core.splits.SplitDict(infos)
  path = tiny.vocabulary().path
  with (
    mock.patch.dict(os.environ, {"MTM_T5_VOCABULARY": path}),
    mock.patch.object(tfds.core.utils.gcs_utils, "_is_gcs_disabled", True),
    mock.patch.object(tfds.core.DatasetInfo, "splits", splits),
    tfds.testing.mock_data(num_examples=count, as_dataset_fn=fixed if fields else None),
  ):
    yield


def examples(
  name: str, split: str = "train", count: int = 3, **fields: Any
) -> list[dict[str, Any]]:
  """What the task `name` makes of mocked examples: NumPy values, bytes as text."""
  with data(count, **fields):
    task = registry.find(name)
    found = list(task.get_dataset(LENGTHS, split, shuffle=False).as_numpy_iterator())
  return [
    {k: v.decode() if isinstance(v, bytes) else v for k, v in example.items()} for example in found
  ]


def check(name: str, split: str = "train") -> list[dict[str, Any]]:
  """Examples of the task, each feature known to be ids that end or were cut, and never empty."""
  found = examples(name, split)
  assert found, name
  for example in found:
    for feature in registry.find(name).output_features:
      ids = example[feature]
      assert ids.ndim == 1 and 1 <= len(ids) <= LENGTHS[feature], (name, feature)
      assert ids.max() < 500 and ids.min() >= 0
      assert ids[-1] == 1 or len(ids) == LENGTHS[feature], (name, feature)
  return found
