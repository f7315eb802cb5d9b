"""The packages' tasks give pieces of code and where they come from."""

from __future__ import annotations

import collections
import itertools

from mtm.data import registry
from mtm.data._tensorflow import seqio
from mtm.data.sources import stdlib
from mtm.data.vocabulary import from_seqio
from mtm.tasks import packages
from tests.data import tiny


def first(name, count):
  task = registry.find(name)
  return list(task.get_dataset(None, "validation", shuffle=False).take(count).as_numpy_iterator())


def expected(count):
  return list(itertools.islice(packages.pieces("validation"), count))


def test_both_tasks_ask_the_same_question():
  told = expected(3)
  vocabulary = from_seqio(registry.find("stdlib_packages").output_features["inputs"].vocabulary)
  for (package, text), example in zip(told, first("stdlib_packages", 3), strict=True):
    assert vocabulary.decode(example["inputs"]) == text
    assert packages.PACKAGES[int(example["label"])] == package
  for (package, text), example in zip(told, first("stdlib_packages_text", 3), strict=True):
    assert vocabulary.decode(example["inputs"]) == text
    assert vocabulary.decode(example["targets"]) == package
    assert example["targets"][-1] == vocabulary.eos_id


def test_no_file_is_in_both_splits_and_no_package_is_most_of_one():
  names = [name for split in stdlib.SPLITS for name, _ in stdlib.documents(split)]
  assert {packages.split_of(name) for name in names} == set(packages.SPLITS)
  for split in packages.SPLITS:
    counts = collections.Counter(package for package, _ in packages.pieces(split))
    assert counts.keys() == set(packages.PACKAGES)
    assert max(counts.values()) < 0.4 * sum(counts.values())
    assert {package for package, _ in itertools.islice(packages.pieces(split), 40)} == set(counts)


def test_another_vocabulary_is_another_task():
  vocabulary = tiny.vocabulary()
  packages.add("packages_of_a_test", vocabulary)
  try:
    (example,), ((_, text),) = first("packages_of_a_test", 1), expected(1)
    assert example["inputs"].tolist() == vocabulary.encode(text)
  finally:
    seqio().TaskRegistry.remove("packages_of_a_test")
