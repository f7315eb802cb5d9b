"""The chain-of-thought paper's symbolic tasks: answers, rationales and lengths."""

from __future__ import annotations

import itertools
import re

import pytest

from mtm.prompts import library
from mtm.tasks import symbolic


def records(name: str, split: str = "test", count: int = 100):
  return list(itertools.islice(library.find(name).examples(split), count))


@pytest.mark.parametrize("length", symbolic.LENGTHS)
def test_last_letters_are_those_of_the_words(length):
  for record in records(f"last_letters_{length}"):
    words = record["name"].split()
    assert len(words) == length and record["answer"] == "".join(w[-1] for w in words)
    assert record["rationale"].count("ends with") == length
    assert f'"{record["name"]}"' in record["question"]


@pytest.mark.parametrize("length", symbolic.LENGTHS)
def test_a_coin_is_heads_up_after_an_even_number_of_flips(length):
  found = records(f"coin_flip_{length}")
  for record in found:
    flips = len(re.findall(r"[a-z] flips the coin", record["question"]))
    stays = record["question"].count("does not flip")
    assert flips + stays == length
    assert record["choices"][record["gold"]] == ("no" if flips % 2 else "yes")
    assert record["rationale"].endswith("tails up." if flips % 2 else "heads up.")
  assert 0.2 < sum(record["gold"] for record in found) / len(found) < 0.8


@pytest.mark.parametrize("name", ["last_letters_2", "coin_flip_2"])
def test_the_answer_is_found_in_a_rationale_and_alone(name):
  data = library.find(name)
  for record in records(name, count=20):
    for template in data.templates:
      found = template.render(record)
      assert data.extracted(f" {found.targets}\n") == found.references[0], template.name
  assert len(data.asking(reasons=True)) == 4 and len(data.asking()) == 10


def test_training_has_no_question_of_the_test():
  asked = {record["question"] for record in records("last_letters_2", "train", 99_999)}
  assert not asked & {record["question"] for record in records("last_letters_2", "test", 99_999)}
