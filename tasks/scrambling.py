"""GPT-3's word scrambling, as its paper defines it (2005.14165, §3.9.2): no download.

The paper takes the 10,000 most frequent words of more than 4 and fewer than 15 letters; these are
the standard library's.
"""

from __future__ import annotations

import functools
import random
import string
from collections.abc import Callable, Iterator

from mtm.prompts.prompted import Prompted, Reader
from mtm.prompts.template import Example
from mtm.tasks import _generated, _templates, _words

Scramble = Callable[[str, random.Random], str]

# The first is the paper's own.
TEMPLATES = _templates.numbered(
  "Please unscramble the letters into a word, and write that word:\n{scrambled} =",
  "{scrambled} ->",
  "Scrambled: {scrambled}\nWord:",
  "Which word is hidden in {scrambled}?\nAnswer:",
  "Repair this word: {scrambled}\nRepaired:",
  "Q: {scrambled}\nA:",
  "Somebody wrote {scrambled} and meant",
  "Find the word.\nInput: {scrambled}\nOutput:",
  "Letters: {scrambled}\nWrite the word that they were.\n",
  "User: What word is {scrambled}?\nAssistant:",
)


def cycle(word: str, rng: random.Random) -> str:
  """Cycled letters: `inevitably` → `lyinevitab`."""
  start = rng.randrange(1, len(word))
  return word[start:] + word[:start]


def inner(word: str, rng: random.Random, ends: int) -> str:
  """An anagram of all but the first and last `ends` letters: `corruption` → `criroptuon`."""
  middle = list(word[ends:-ends])
  rng.shuffle(middle)
  return word[:ends] + "".join(middle) + word[-ends:]


def insertion(word: str, rng: random.Random) -> str:
  """A mark of punctuation or a blank between each two letters: `s.u!c/c!e.s s i/o/n`."""
  marks = [rng.choice(string.punctuation + " ") for _ in word[1:]]
  return word[0] + "".join(mark + letter for mark, letter in zip(marks, word[1:], strict=True))


def reverse(word: str, rng: random.Random) -> str:
  """`objects` → `stcejbo`."""
  del rng
  return word[::-1]


KINDS: dict[str, Scramble] = {
  "cycle_letters": cycle,
  "anagrams1": functools.partial(inner, ends=1),
  "anagrams2": functools.partial(inner, ends=2),
  "random_insertion": insertion,
  "reversed_words": reverse,
}


def _records(name: str, scramble: Scramble, split: str) -> Iterator[Example]:
  """The words of a split, scrambled; rarely used ones come last."""
  for word in _words.frequent():
    if _generated.split_of(f"scrambling:{word}") == split:
      yield {"scrambled": scramble(word, random.Random(f"{name}:{word}")), "answer": word}


def _splits(name: str, scramble: Scramble) -> dict[str, Reader]:
  return {split: functools.partial(_records, name, scramble, split) for split in _generated.SIZES}


SETS = tuple(
  Prompted(
    name, "scrambling", _splits(name, scramble), TEMPLATES, ("exact_match",), licence="PSF-2.0"
  )
  for name, scramble in KINDS.items()
)
