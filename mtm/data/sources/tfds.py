"""Records of TFDS data sets as plain Python: texts, numbers, lists and dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mtm.data._tensorflow import tensorflow
from mtm.errors import UserError


def records(name: str, split: str) -> Iterator[dict[str, Any]]:
  """The records of a split in the order of its files; what is not on the machine is downloaded.

  Args:
    name: such as "glue/rte:2.0.0"; "huggingface:quail" is one of TFDS's community.
    split: such as "train", or "train[:200]".

  Raises:
    UserError: the data set is unknown, has no such split, or cannot be had.
  """
  tensorflow()
  import tensorflow_datasets as tfds

  try:
    found = tfds.as_numpy(tfds.load(name, split=split, shuffle_files=False))
  except Exception as e:  # TFDS raises whatever a network, a disk or a catalogue does
    raise _unavailable(name, split, e) from e
  for record in found:
    yield plain(record)


def count(name: str, split: str) -> int:
  """How many records a split has, as TFDS knows without reading them; raises as `records` does."""
  tensorflow()
  import tensorflow_datasets as tfds

  try:
    return int(tfds.builder(name).info.splits[split].num_examples)
  except Exception as e:
    raise _unavailable(name, split, e) from e


def plain(value: Any) -> Any:
  """NumPy's values as Python's, bytes as text, arrays and ragged arrays as lists."""
  if isinstance(value, dict):
    return {name: plain(inner) for name, inner in value.items()}
  if isinstance(value, bytes):
    return value.decode("utf-8", "replace")
  if hasattr(value, "to_list"):  # TensorFlow's ragged values
    return plain(value.to_list())
  if isinstance(value, np.ndarray | np.generic):
    return plain(value.tolist())
  if isinstance(value, list | tuple):
    return [plain(inner) for inner in value]
  return value


def _unavailable(name: str, split: str, error: Exception) -> UserError:
  reason = " ".join(str(error).split())[:200]
  return UserError(
    f"TFDS data set {name!r}, split {split!r}, cannot be had ({type(error).__name__}: {reason}); "
    "prepare it with `tfds build` where there is a network, and name its folder in TFDS_DATA_DIR"
  )
