"""Prompted sets over TFDS: every one against a record as its catalogue has it, and its features."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from mtm.data.sources import tfds
from mtm.errors import UserError
from mtm.prompts import library
from mtm.prompts.prompted import Prompted
from mtm.tasks import _templates, _tfds
from tests.tasks import mocked
from tests.tasks.raw import RAW

SETS = {
  name: data for name, data in library.sets().items()
  if isinstance(next(iter(data.splits.values())), _tfds.Split)
}  # fmt: skip
NATIVE = [name for name, data in SETS.items() if not data.version.startswith("huggingface:")]
# Translations: the language pairs that need no record of their own.
ALIKE = ("anli_r", "para_crawl_en_", "wmt16_en_")


def read(data: Prompted) -> _tfds.Split:
  split = next(iter(data.splits.values()))
  assert isinstance(split, _tfds.Split)
  return split


def test_every_set_has_a_record_here():
  assert set(RAW) <= set(SETS)
  assert not {name for name in set(SETS) - set(RAW) if not name.startswith(ALIKE)}


@pytest.mark.parametrize("name", RAW)
def test_a_record_becomes_questions_with_its_answer(name):
  data, (raw, answer) = SETS[name], RAW[name]
  record = read(data).write(raw)
  assert (record is None) == (answer is None)
  if record is not None:
    first, *rest = (template.render(record) for template in data.templates)
    assert first.targets == answer
    assert len({r.inputs for r in [first, *rest]}) == len(data.templates)
    if answer:
      assert all(r.targets for r in rest)
      assert all(r.references[0] == r.targets for r in [first, *rest])


@pytest.mark.parametrize("name", SETS)
def test_ten_templates_of_which_at_most_five_turn_the_task_around(name):
  templates = SETS[name].templates
  assert len(templates) == 10
  assert sum(not template.original for template in templates) <= 5
  if read(SETS[name]).write is not None and any("options" in t.fields for t in templates):
    assert sum("options" in t.fields for t in templates) >= 7


@pytest.mark.slow  # makes seventy builders
def test_every_field_that_is_read_is_in_the_catalogue():
  from tensorflow_datasets.testing import mocking

  with mocked.data():
    import tensorflow_datasets

    for name in set(NATIVE) & set(RAW):
      data = SETS[name]
      features = tensorflow_datasets.builder(data.version).info.features
      (raw,) = itertools.islice(mocking.RandomFakeGenerator(features, 1), 1)
      record = read(data).write(tfds.plain(raw))
      if record is not None:
        _ = [template.render(record) for template in data.templates]


def test_a_task_reads_a_mocked_data_set():
  (example, *_) = mocked.examples("rte:p1", premise="It rains.", hypothesis="Wet.", label=0)
  assert example["inputs_pretokenized"].startswith("It rains.\nDoes it follow from this that Wet.")
  assert example["targets_pretokenized"] == " yes"


def test_sizes_come_from_tfds_and_are_capped():
  data = SETS["rte"]
  with mocked.data(3):
    assert dict(data.sizes) == {"train": 3, "validation": 3}
    assert [record["premise"] for record in data.examples("validation")]
  capped = _tfds.Sizes({"train": _tfds.Split("glue/rte:2.0.0", "train", lambda raw: raw, 2)})
  with mocked.data(3):
    assert capped["train"] == 2


def test_a_data_set_that_cannot_be_had_is_told():
  with pytest.raises(
    UserError, match="'no_such_set', split 'train', cannot be had .*TFDS_DATA_DIR"
  ):
    next(tfds.records("no_such_set", "train"))


def test_labels_out_of_range_and_hidden_ones():
  fields = _tfds.Fields({"text": "t"}, ("no", "yes"))
  assert fields({"t": " a ", "label": -1}) == {"text": "a", "choices": ["no", "yes"], "gold": -1}
  assert fields({"t": "a", "label": 2}) is None
  assert _tfds.Fields({}, answer="a")({"a": []}) is None
  assert _tfds.at({"a": [{"b": 1}, {"b": 2}]}, "a/b") == [1, 2]


def test_templates_of_groups_are_numbered_anew():
  groups = (_templates.numbered("{a}", "{b}"), _templates.numbered("{c}", prefix="turned"))
  found = _templates.joined(*groups, _templates.numbered("{d}"))
  told: list[Any] = [(template.name, template.inputs) for template in found]
  assert told == [("p1", "{a}"), ("p2", "{b}"), ("turned1", "{c}"), ("p3", "{d}")]
