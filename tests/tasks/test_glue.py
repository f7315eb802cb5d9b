"""GLUE and SuperGLUE as T5 writes them; expected texts are those of its paper's appendix D."""

from __future__ import annotations

import pytest

from mtm.data import registry
from mtm.tasks import glue
from tests.tasks import mocked

NAMES = [
  *(f"glue_{name}_v002" for name in glue.GLUE),
  *(f"super_glue_{name}_v102" for name in glue.SUPER_GLUE),
  "glue_stsb_v002",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_task_resolves_and_preprocesses(name):
  for example in mocked.check(name):
    label = example["targets_pretokenized"]
    if name != "glue_stsb_v002":
      assert registry.find(name).postprocess_fn(label, example=example, is_target=True) >= 0


def test_labels_have_the_order_of_tfds():
  import tensorflow_datasets as tfds

  with mocked.data():
    for name, benchmark in {**glue.GLUE, **glue.SUPER_GLUE}.items():
      if name not in ("boolq", "copa", "wic"):  # TFDS has plain numbers there
        names = tfds.builder(benchmark.tfds_name).info.features["label"].names
        assert list(benchmark.labels) == names, name


def test_an_example_is_named_fields_and_a_label():
  (example, *_) = mocked.examples("glue_mrpc_v002", sentence1="A b.", sentence2="C.", label=1)
  assert example["inputs_pretokenized"] == "mrpc sentence1: A b. sentence2: C."
  assert example["targets_pretokenized"] == "equivalent"
  (example, *_) = mocked.examples("glue_mnli_matched_v002", premise="P.", hypothesis="H.", label=2)
  assert example["inputs_pretokenized"] == "mnli hypothesis: H. premise: P."
  assert example["targets_pretokenized"] == "contradiction"


def test_a_hidden_label_is_unknown():
  (example, *_) = mocked.examples("glue_cola_v002", sentence="S.", label=-1)
  assert example["targets_pretokenized"] == "<unk>"


def test_similarity_is_rounded_to_fifths():
  for score, expected in ((3.25, "3.2"), (2.0, "2.0"), (4.74, "4.8")):
    (example, *_) = mocked.examples("glue_stsb_v002", sentence1="a", sentence2="b", label=score)
    assert example["targets_pretokenized"] == expected
