"""The standard library's tasks give its text."""

from __future__ import annotations

import itertools

import pytest

from mtm.data import registry
from mtm.data._tensorflow import seqio
from mtm.data.sources import stdlib
from mtm.data.vocabulary import from_seqio
from mtm.tasks import stdlib as tasks


def first(name, split, count):
  """The first examples of a task, ids decoded."""
  task = registry.find(name)
  vocabulary = from_seqio(task.output_features["targets"].vocabulary)
  data = task.get_dataset(None, split, shuffle=False).take(count)
  for example in data.as_numpy_iterator():
    for feature in task.output_features:
      assert example[feature][-1] == vocabulary.eos_id
    yield {feature: vocabulary.decode(example[feature]) for feature in task.output_features}


def test_code_is_whole_files():
  expected = [{"targets": t} for _, t in itertools.islice(stdlib.documents("validation"), 3)]
  assert list(first("stdlib_code", "validation", 3)) == expected


def test_docstrings_are_asked_by_their_signature_and_the_reverse():
  triples = list(itertools.islice(stdlib.pairs("validation"), 3))
  there = [{"inputs": s, "targets": d} for _, s, d in triples]
  assert list(first("stdlib_docstrings", "validation", 3)) == there
  back = [{"inputs": d, "targets": s} for _, s, d in triples]
  assert list(first("stdlib_docstrings_reverse", "validation", 3)) == back


def test_docstrings_are_texts_with_or_without_their_signature():
  _, signature, docstring = next(stdlib.pairs("validation"))
  (text,) = first("stdlib_docstrings_text", "validation", 1)
  assert text == {"targets": docstring}
  (text,) = first("stdlib_docstrings_lm", "validation", 1)
  assert text["targets"].startswith(signature) and docstring in text["targets"]


@pytest.mark.parametrize("name", ["stdlib_mix", "stdlib_docstrings_both"])
def test_a_mixtures_rates_add_up(name):
  mixture = registry.find(name)
  assert sum(mixture.get_rate(task) for task in mixture.tasks) == pytest.approx(1)
  assert len({task.output_features["targets"].vocabulary.vocab_size for task in mixture.tasks}) == 1
  assert seqio().get_subtasks(mixture) == mixture.tasks


def test_registering_needs_no_vocabulary(monkeypatch, tmp_path):
  monkeypatch.setenv("MTM_CACHE", str(tmp_path))
  for name in ("stdlib_code", "stdlib_docstrings"):
    seqio().TaskRegistry.remove(name)
  tasks._add("stdlib_code", tasks._code, ["targets"])
  tasks._add("stdlib_docstrings", tasks._pairs(lambda s, d: (s, d)), ["inputs", "targets"])
  assert not list(tmp_path.iterdir())
