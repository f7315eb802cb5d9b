"""GPT-3's arithmetic: the paper's ranges, its answers, its wording."""

from __future__ import annotations

import ast
import random
import re

import pytest

from mtm.prompts import library
from mtm.tasks import _generated, arithmetic

SIGNS = {"plus": "+", "minus": "-", "times": "*"}
NAMES = [data.name for data in arithmetic.SETS]


def value(expression: str) -> int:
  """By Python's own parser, the words turned into signs."""
  for word, sign in SIGNS.items():
    expression = expression.replace(word, sign)
  code = compile(ast.parse(expression, mode="eval"), "", "eval")
  return int(eval(code, {"__builtins__": {}}))  # noqa: S307 (digits and signs)


def test_the_ten_tasks_of_the_paper_are_there():
  digits = [f"arithmetic_{n}d{sign}" for n in (2, 3, 4, 5) for sign in "as"]
  assert NAMES == [*digits, "arithmetic_2dm", "arithmetic_1dc"]


@pytest.mark.parametrize("name", NAMES)
def test_two_thousand_questions_in_the_papers_wording_with_right_answers(name):
  data = library.find(name)
  found = list(data.examples("test"))
  assert len(found) == 2000 == len({record["symbols"] for record in found})
  pattern = re.compile(r"Q: What is (.+)\?\nA: (-?\d+)")
  for record in found[:300]:
    match = pattern.fullmatch(data.templates[0].render(record).text)
    assert match and value(match[1]) == int(match[2]), record


@pytest.mark.parametrize("digits", [2, 5])
def test_operands_are_uniform_below_a_power_of_ten(digits):
  make = arithmetic._two("-", digits)
  rng = random.Random(0)
  drawn = [int(n) for _ in range(2000) for n in make(rng)["symbols"].split(" - ")]
  assert 0 <= min(drawn) and max(drawn) < 10**digits
  mean = sum(drawn) / len(drawn) / 10**digits
  assert abs(mean - 0.5) < 4 * (1 / 12 / len(drawn)) ** 0.5  # four standard errors
  assert any(value(make(rng)["symbols"]) < 0 for _ in range(99))


def test_the_composite_has_three_digits_and_parentheses_around_the_last_two():
  rng = random.Random(0)
  drawn = [arithmetic.composite(rng)["symbols"] for _ in range(300)]
  assert all(re.fullmatch(r"\d[-+*]\(\d[-+*]\d\)", text) for text in drawn)
  assert {text[1] + text[4] for text in drawn} == {f + g for f in "-+*" for g in "-+*"}


def test_no_question_is_in_two_splits_and_all_are_made_alike_again():
  data = library.find("arithmetic_2da")
  splits = {s: [record["symbols"] for record in data.examples(s)] for s in data.splits}
  assert sum(map(len, splits.values())) == len(set().union(*splits.values()))
  again = data.examples("validation")
  assert splits["validation"] == [record["symbols"] for record in again]


def test_a_split_ends_where_there_are_no_more_questions():
  few = _generated.splits("few", lambda rng: {"question": rng.randrange(40)}, sizes={"train": 99})
  found = [record["question"] for record in few["train"]()]
  assert sorted(found) == [n for n in range(40) if _generated.split_of(f"few:{n}") == "train"]


@pytest.mark.parametrize(
  "name", ["arithmetic_3da", "last_letters_3", "coin_flip_2", "days_between"]
)
def test_sizes_that_are_told_are_right(name):
  data = library.find(name)
  for split in ("train", "validation"):
    assert data.sizes[split] == sum(1 for _ in data.examples(split))
