"""Sorting, counting and comparing: every answer is found again from its question's text."""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Callable

import pytest

from mtm.prompts import library
from mtm.tasks import lists

Answer = Callable[[str], str]


def listed(question: str) -> list[str]:
  return re.sub(r"[.?]$", "", question.split(": ")[1]).split(", ")


def ordered(key: Callable[[str], object]) -> Answer:
  return lambda question: ", ".join(sorted(listed(question), key=key))  # type: ignore[arg-type]


def quoted(question: str) -> list[str]:
  return re.findall(r'"(\w+)"', question)


ANSWERS: dict[str, Answer] = {
  "sort_numbers": ordered(int),
  "sort_words": ordered(str),
  "reverse_list": lambda q: ", ".join(reversed(listed(q))),
  "largest": lambda q: max(listed(q), key=int),
  "is_larger": lambda q: "yes" if int(q.split()[1]) > int(q[:-1].split()[-1]) else "no",
  "earlier_word": lambda q: min(listed(q)[0].split(" or ")),
  "count_letter": lambda q: str(collections.Counter(quoted(q)[1])[quoted(q)[0]]),
  "count_things": lambda q: str(collections.Counter(listed(q))[q.split()[3]]),
  "count_all": lambda q: str(len(listed(q))),
}


def test_every_set_is_here():
  assert [data.name for data in lists.SETS] == list(ANSWERS)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_answer_is_that_of_the_question(name):
  data = library.find(name)
  answers = collections.Counter()
  for record in itertools.islice(data.examples("test"), 150):
    found = data.templates[0].render(record)
    assert found.targets == ANSWERS[name](record["question"]), record
    answers[found.gold if found.choices else found.targets] += 1
  assert max(answers.values()) < 110  # not always the same one
