"""Exemplars: how many, which, in which order, and never the question itself."""

from __future__ import annotations

import collections
from typing import Any

import pytest

from mtm.errors import UserError
from mtm.prompts.prompted import Prompted
from mtm.prompts.shots import Shots
from mtm.prompts.template import Template

TEMPLATE = Template("plain", "Is {n} odd?")
RECORDS: list[dict[str, Any]] = [
  {"n": n, "choices": ["no", "yes"], "gold": n % 2} for n in range(30)
]


def numbers(records=RECORDS, templates=(TEMPLATE,)):
  return Prompted("numbers", "toys", {"train": lambda: records}, templates)


DATA = numbers()


def asked(shots, example=RECORDS[3], length=None, data=DATA):
  """The numbers in a prompt, the question's last."""
  found = shots.prompt(data, TEMPLATE, example, length)
  return [int(part.split()[1]) for part in found.inputs.split("\n\n")]


def words(text):
  return len(text.split())


def test_exemplars_stand_before_the_question_with_their_answers():
  found = Shots(2).prompt(DATA, TEMPLATE, RECORDS[3])
  *exemplars, question = found.inputs.split("\n\n")
  assert question == "Is 3 odd?" and (found.targets, found.gold) == ("yes", 1)
  assert {e.split("? ")[1] for e in exemplars} == {"yes", "no"}
  assert found.key == TEMPLATE.render(RECORDS[3]).key
  assert Shots().prompt(DATA, TEMPLATE, RECORDS[3]) == TEMPLATE.render(RECORDS[3])


def test_the_question_is_never_its_own_exemplar():
  for example in RECORDS[:5]:
    drawn = asked(Shots(29, balanced=False), example)
    assert len(set(drawn)) == 30 and drawn[-1] == example["n"]


def test_a_question_asked_twice_is_no_exemplar_of_itself():
  again = [{**RECORDS[3], "source": "elsewhere"}, *RECORDS[:3]]
  assert 3 not in asked(Shots(3, balanced=False), data=numbers(again))[:-1]


def test_labels_are_balanced_and_have_no_place_of_their_own():
  few = numbers([r for r in RECORDS if r["n"] % 2 or r["n"] < 4])  # 2 even ones, 15 odd ones
  firsts = []
  for seed in range(40):
    drawn = asked(Shots(4, seed=seed), data=few)[:-1]
    assert sum(n % 2 for n in drawn) == 2
    firsts.append(drawn[0] % 2)
  assert 8 < sum(firsts) < 32
  counts = collections.Counter(
    sum(n % 2 for n in asked(Shots(4, seed=s, balanced=False))[:-1]) for s in range(40)
  )
  assert len(counts) > 1


def test_seed_and_question_decide_and_nothing_else():
  assert asked(Shots(4)) == asked(Shots(4))
  assert asked(Shots(4))[:-1] != asked(Shots(4, seed=1))[:-1]
  assert asked(Shots(4))[:-1] != asked(Shots(4), RECORDS[5])[:-1]
  assert asked(Shots(4))[:-1] != asked(Shots(4, seed=2))[:-1]


def test_fixed_exemplars_are_the_same_for_every_question():
  drawn = [asked(Shots(3, fixed=True), example)[:-1] for example in RECORDS]
  assert all(d == drawn[0] for d, e in zip(drawn, RECORDS, strict=True) if e["n"] not in drawn[0])
  assert len({tuple(d) for d in drawn}) > 1  # a question among them is replaced


def test_the_pool_is_the_beginning_of_the_split():
  assert set(asked(Shots(4, pool=5))[:-1]) <= {0, 1, 2, 4}


def test_exemplars_are_packed_to_the_budget():
  # A question with its answer is 4 words here, and so is an exemplar.
  assert len(asked(Shots(8, budget=12, strict=False), length=words)) == 3
  assert len(asked(Shots(2, budget=12), length=words)) == 3
  long = [{"n": f"{n} {'x ' * 9}", "choices": ["no", "yes"], "gold": n % 2} for n in range(9)]
  mixed = numbers([*RECORDS, *long])
  for seed in range(9):
    assert len(asked(Shots(2, budget=12, seed=seed), length=words, data=mixed)) == 3


@pytest.mark.parametrize(
  ("shots", "told"),
  [
    (Shots(3, budget=12), "3 exemplars do not fit into a context of 12 .* takes 4, only 2: take a"),
    (Shots(1, budget=3, strict=False), "exemplars take 4 tokens and more each, longer than .* 3"),
    (Shots(40), "the split 'train' has 29 exemplars for a question, not 40"),
    (Shots(2, split="dev"), "no split 'dev'"),
  ],
)
def test_exemplars_that_cannot_be_had_are_told(shots, told):
  with pytest.raises(UserError, match=told):
    shots.prompt(DATA, TEMPLATE, RECORDS[3], words)


def test_a_negative_number_of_exemplars_is_told():
  with pytest.raises(UserError, match="k = -1"):
    Shots(-1)


def test_exemplars_without_an_answer_are_passed_over():
  hidden = [{**r, "gold": -1} for r in RECORDS[4:]]
  assert set(asked(Shots(3), data=numbers([*RECORDS[:4], *hidden]))[:-1]) == {0, 1, 2}
