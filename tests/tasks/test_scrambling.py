"""GPT-3's word scrambling: each kind against its definition."""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable

import pytest

from mtm.prompts import library
from mtm.tasks import _words


def rotations(word: str) -> set[str]:
  return {word[i:] + word[:i] for i in range(1, len(word))}


def kept(ends: int) -> Callable[[str, str], bool]:
  """Whether the ends stand and the rest are the same letters."""

  def holds(scrambled: str, word: str) -> bool:
    same = scrambled[:ends] == word[:ends] and scrambled[-ends:] == word[-ends:]
    return same and sorted(scrambled) == sorted(word)

  return holds


def inserted(scrambled: str, word: str) -> bool:
  marks = scrambled[1::2]
  return scrambled[::2] == word and set(marks) <= {*string.punctuation, " "}


DEFINITIONS: dict[str, Callable[[str, str], bool]] = {
  "cycle_letters": lambda scrambled, word: scrambled in rotations(word),
  "anagrams1": kept(1),
  "anagrams2": kept(2),
  "random_insertion": inserted,
  "reversed_words": lambda scrambled, word: "".join(reversed(scrambled)) == word,
}


def test_words_are_the_ten_thousand_most_frequent_of_five_to_fourteen_letters():
  words = _words.frequent()
  assert len(words) == len(set(words)) == 10_000
  assert {len(word) for word in words} == set(range(5, 15))
  assert all(word.isascii() and word.isalpha() and word.islower() for word in words)
  assert {"return", "value", "object"} <= set(words[:100])


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_scrambled_word_is_what_the_paper_says(name):
  data = library.find(name)
  for record in itertools.islice(data.examples("test"), 500):
    assert DEFINITIONS[name](record["scrambled"], record["answer"]), record
  text = data.templates[0].render(record).text
  first = "Please unscramble the letters into a word, and write that word:\n"
  assert text == f"{first}{record['scrambled']} = {record['answer']}"


def test_letters_are_really_scrambled():
  for name in ("anagrams1", "anagrams2"):
    long = [r for r in library.find(name).examples("test") if len(r["answer"]) > 8]
    assert sum(r["scrambled"] != r["answer"] for r in long) > 0.9 * len(long)


def test_a_word_has_one_split_in_all_kinds():
  splits: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
  for name in DEFINITIONS:
    for split, words in splits.items():
      words |= {record["answer"] for record in library.find(name).examples(split)}
  assert sum(map(len, splits.values())) == 10_000 and len(splits["test"]) > 2000
