"""Sorting, counting and comparing: questions that a generator makes, no download."""

from __future__ import annotations

import random
from typing import Any

from mtm.prompts.prompted import Prompted
from mtm.prompts.template import Template
from mtm.tasks import _generated, _templates, _words

LETTERS = "abcdefghijklmnopqrstuvwxyz"
THINGS = "apple bird book chair cup dog fork key lamp pear pen plum rose shoe tree".split()


def sort_numbers(rng: random.Random) -> dict[str, Any]:
  """Three to six numbers below 100, smallest first."""
  numbers = rng.sample(range(100), rng.randint(3, 6))
  return _sorted(
    [str(n) for n in numbers], [str(n) for n in sorted(numbers)], "from small to large"
  )


def sort_words(rng: random.Random) -> dict[str, Any]:
  """Three to five words by alphabet."""
  words = rng.sample(_words.frequent()[:2000], rng.randint(3, 5))
  return _sorted(words, sorted(words), "by alphabet")


def reverse_list(rng: random.Random) -> dict[str, Any]:
  """Three to six things in reverse order."""
  things = rng.sample(THINGS, rng.randint(3, 6))
  return _sorted(things, things[::-1], "in reverse order")


def largest(rng: random.Random) -> dict[str, Any]:
  """The largest of some numbers, which are the choices."""
  numbers = rng.sample(range(1000), rng.randint(3, 5))
  listed = [str(n) for n in numbers]
  return {
    "question": f"Which of these numbers is the largest: {', '.join(listed)}?",
    "choices": listed,
    "gold": numbers.index(max(numbers)),
  }


def is_larger(rng: random.Random) -> dict[str, Any]:
  """Whether one number is larger than another."""
  a, b = rng.sample(range(1000), 2)
  return {
    "question": f"Is {a} larger than {b}?", "choices": ["yes", "no"], "gold": int(a < b)
  }  # fmt: skip


def earlier_word(rng: random.Random) -> dict[str, Any]:
  """Which of two words comes first by alphabet."""
  words = rng.sample(_words.frequent()[:2000], 2)
  question = f"Which word comes first in a dictionary: {words[0]} or {words[1]}?"
  return {"question": question, "choices": words, "gold": words.index(min(words))}


def count_letter(rng: random.Random) -> dict[str, Any]:
  """How often a letter is in a word; three times in four one of its own."""
  word = rng.choice(_words.frequent()[:4000])
  letter = rng.choice(word) if rng.random() < 0.75 else rng.choice(LETTERS)
  return {
    "question": f'How often is the letter "{letter}" in the word "{word}"?',
    "answer": str(word.count(letter)),
  }


def count_things(rng: random.Random) -> dict[str, Any]:
  """How often a thing is in a list."""
  kinds = rng.sample(THINGS, 3)
  things = [rng.choice(kinds) for _ in range(rng.randint(4, 9))]
  return {
    "question": f"How often is {kinds[0]} in this list: {', '.join(things)}?",
    "answer": str(things.count(kinds[0])),
  }


def count_all(rng: random.Random) -> dict[str, Any]:
  """How many things a list has."""
  things = [rng.choice(THINGS) for _ in range(rng.randint(2, 10))]
  question = f"How many things are in this list: {', '.join(things)}?"
  return {"question": question, "answer": str(len(things))}


def _sorted(given: list[str], answer: list[str], how: str) -> dict[str, Any]:
  return {
    "question": f"Write these {how}: {', '.join(given)}.",
    "list": given,
    "answer": ", ".join(answer),
  }


MADE = {
  "sorting": (sort_numbers, sort_words, reverse_list),
  "comparison": (largest, is_larger, earlier_word),
  "counting": (count_letter, count_things, count_all),
}


def _set(cluster: str, make: _generated.Make) -> Prompted:
  chosen = cluster == "comparison"
  templates: tuple[Template, ...] = (
    _templates.choice_questions() if chosen else _templates.open_questions()
  )
  metric = "accuracy" if chosen else "exact_match"
  return _generated.made(make.__name__, cluster, make, templates, metric)


SETS = tuple(_set(cluster, make) for cluster, makers in MADE.items() for make in makers)
