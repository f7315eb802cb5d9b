"""The sets of the claims on prompts: right answers, and no question in two splits."""

from __future__ import annotations

import random

import pytest

from benchmarks.claims import _sets
from mtm.data import registry
from mtm.data.provider import splits_of
from mtm.data.vocabulary import Bytes
from mtm.prompts import library

KNOWN = {data.name: data for data in library.listed(_sets)}


def test_operations_do_what_they_are_called() -> None:
  done = {name: _sets.written("bdac", how) for name, how in _sets.OPERATIONS.items()}
  assert done["copy"] == "bdac" and done["title"] == "Bdac" and done["last half"] == "bdAC"
  assert done["odd letters"] == "BdAc" and done["edges"] == "BdaC" and done["last gap"] == "BDAc"
  assert len(set(done.values())) == len(done)  # one word tells them all apart


def test_a_question_says_what_is_wanted_but_a_rule_does_not() -> None:
  asked, rule = KNOWN["word_first_half"], KNOWN["rule_bang"]
  example = next(asked.examples("test"))
  assert asked.template("note").render(example).text == (
    f"first half of {example['word']}>{example['word'][:2].upper()}{example['word'][2:]}"
  )
  example = next(rule.examples("test"))
  assert (
    rule.templates[0].render(example).text
    == f"{example['word']}>{'!' if example['word'][0] in 'aeiou' else '-'}"
  )


def test_the_last_step_of_a_rationale_has_the_answer() -> None:
  data = KNOWN["coin_flip_of_3"]
  for example in data.held("validation", 20):
    rendered = data.template("reasoned").render(example)
    assert data.template("direct").render(example).targets == example["answer"]
    assert data.extracted(rendered.targets) == example["answer"]
    assert (rendered.targets.split()[2] == "h") == (example["answer"] == "yes")
    assert len(rendered.targets.split()) == 3 + 2


def test_a_coin_is_up_again_after_an_even_number_of_flips() -> None:
  for seed in range(20):
    made = _sets.coin_flip(5)(random.Random(seed))
    flips = sum(map(str.isupper, made["question"]))
    assert (made["answer"] == "yes") == (flips % 2 == 0)
    assert len(made["question"]) == 2 * _sets.PLACES


def test_half_of_a_rehearsed_mixture_are_notes_and_no_question_is_of_another_cluster() -> None:
  name = _sets.rehearsed(["word_ends"], ["note", "p2"], "p9", Bytes(extra_ids=0))
  rates: dict[str, float] = {}
  for split in splits_of(registry.find(name), "train"):
    _, _, template = split.name.partition("#")[0].partition(":")
    rates[template] = rates.get(template, 0) + split.rate
    assert template != "p9" or split.name.startswith(("word_title:", "word_tail:"))
  assert rates["p9"] == pytest.approx(rates["note"] + rates["p2"])


@pytest.mark.parametrize("name", ["word_copy", "rule_at", "coin_flip_of_3"])
def test_no_question_is_in_two_splits(name: str) -> None:
  data = KNOWN[name]
  field = "question" if "_of_" in name else "word"
  texts = {split: {e[field] for e in data.examples(split)} for split in ("train", "test")}
  assert texts["test"] and not texts["train"] & texts["test"]
