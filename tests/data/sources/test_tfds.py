"""NumPy's and TensorFlow's values become plain ones."""

from __future__ import annotations

import numpy as np

from mtm.data._tensorflow import tensorflow
from mtm.data.sources import tfds
from tests.tasks import mocked


def test_values_become_plain():
  ragged = tensorflow().ragged.constant([[b"a"], [b"b", b"c"]])
  raw = {
    "text": "é".encode(), "number": np.int64(3), "list": np.array([b"a", b"b"], object),
    "inner": {"real": np.float32(0.5), "ragged": ragged}, "none": [],
  }  # fmt: skip
  assert tfds.plain(raw) == {
    "text": "é", "number": 3, "list": ["a", "b"],
    "inner": {"real": 0.5, "ragged": [["a"], ["b", "c"]]}, "none": [],
  }  # fmt: skip


def test_records_and_counts_of_a_data_set():
  with mocked.data(3, premise="It rains."):
    found = list(tfds.records("super_glue/rte:1.0.2", "train"))
    assert tfds.count("super_glue/rte:1.0.2", "train") == 3
  assert [record["premise"] for record in found] == ["It rains."] * 3
  assert all(type(record["label"]) is int for record in found)
