"""The sets of the claims on prompts: short, so that a small model learns them on two cores.

Ways to write a word of four letters, `first half of bdac` → `BDac`; rules that are seen from
exemplars alone; and the coin flips of the chain-of-thought paper (2201.11903, section 5), told in
few bytes.
"""

from __future__ import annotations

import functools
import itertools
import random
import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mtm.data.sources import mixtures, prompted
from mtm.prompts.prompted import Prompted
from mtm.prompts.template import Template
from mtm.tasks import _generated

SIZES = {"train": 4_000, "validation": 100, "test": 400}
LETTERS = "abcdef"
VOWELS, CONSONANTS, AFTER = "aeiou", "bdfgk", "abcdefgh"  # of a word that gets a mark
MARKS = {"ask": "?", "at": "@", "bang": "!", "hash": "#", "plus": "+", "star": "*"}  # of the rules
PLACES = 12  # for people who flip a coin
PEOPLE = (2, 3, 5, 8, 9, 10, 11, 12)
FINAL = r"=\s*(\w+)\s*$"  # what a rationale ends with

# Cluster → what is asked for → which letters become capitals.
CLUSTERS: dict[str, dict[str, str]] = {
  "plain": {"copy": "....", "capitals": "XXXX"},
  "ends": {"title": "X...", "tail": "...X"},
  "halves": {"first half": "XX..", "last half": "..XX"},
  "turns": {"odd letters": "X.X.", "even letters": ".X.X"},
  "sides": {"middle": ".XX.", "edges": "X..X"},
  "gaps": {"first gap": ".XXX", "last gap": "XXX."},
}
OPERATIONS = {name: pattern for cluster in CLUSTERS.values() for name, pattern in cluster.items()}


def word(rng: random.Random, letters: str = LETTERS) -> str:
  """Four letters."""
  return "".join(rng.choices(letters, k=4))


def written(given: str, pattern: str) -> str:
  """The word with capitals where the pattern has an X."""
  return "".join(c.upper() if x == "X" else c for c, x in zip(given, pattern, strict=True))


def operated(name: str) -> Callable[[random.Random], dict[str, Any]]:
  """Makes questions for an operation."""

  def make(rng: random.Random) -> dict[str, Any]:
    given = word(rng)
    return {
      "word": given, "question": f"{name} of {given}", "answer": written(given, OPERATIONS[name])
    }  # fmt: skip

  return make


def marked(given: str, mark: str) -> str:
  """`mark` after a word that begins with a vowel, a dash after any other."""
  return mark if given[0] in VOWELS else "-"


def ruled(mark: str) -> Callable[[random.Random], dict[str, Any]]:
  """Makes questions that are answered by a mark which nobody tells: it is to be seen from those
  exemplars that have it."""

  def make(rng: random.Random) -> dict[str, Any]:
    given = rng.choice(rng.choice((VOWELS, CONSONANTS))) + "".join(rng.choices(AFTER, k=2))
    return {"word": given, "answer": marked(given, mark)}

  return make


def coin_flip(people: int) -> Callable[[random.Random], dict[str, Any]]:
  """Whether a coin is heads up after so many people of whom some, the capitals, flip it.

  The rationale tells its side after each. Places without people keep each step of it as far from
  the one whom it is about.
  """

  def make(rng: random.Random) -> dict[str, Any]:
    names = [rng.choice(string.ascii_letters) for _ in range(people)]
    flips = itertools.accumulate(name.isupper() for name in names)
    sides = ["ht"[count % 2] for count in flips]
    return {
      "question": f"{' '.join([*names, *'.' * (PLACES - people)])}:",
      "rationale": f"{' '.join(sides)} =",
      "answer": {"h": "yes", "t": "no"}[sides[-1]],
    }  # fmt: skip

  return make


def _named(name: str) -> str:
  return name.replace(" ", "_")


# How a word is asked about. What stands after it is one letter, for a small model finds it by its
# distance; `prompt_variety` holds out the last three.
WORDINGS = (
  "Q: {question}?", "{question}=", "Write the {question}:", "Tell me the {question}!",
  "User: {question};", "Please give {question}.", "Now {question}/",
  "What is the {question})", "Task: {question}|", "I want {question}]",
)  # fmt: skip


def _operations() -> Iterator[Prompted]:
  """As questions in ten wordings, and as notes."""
  templates = tuple(
    Template(name, text, joiner="")
    for name, text in [
      *((f"p{number}", text) for number, text in enumerate(WORDINGS, 1)), ("note", "{question}>")
    ]
  )  # fmt: skip
  for cluster, operations in CLUSTERS.items():
    for name in operations:
      splits = _generated.splits(_named(name), operated(name), "word", SIZES)
      yield Prompted(f"word_{_named(name)}", f"word_{cluster}", splits, templates, ("accuracy",))


def _rules() -> Iterator[Prompted]:
  for name, mark in MARKS.items():
    splits = _generated.splits(f"rule {name}", ruled(mark), "word", SIZES)
    template = Template("plain", "{word}>", joiner="")
    yield Prompted(f"rule_{name}", "rules", splits, (template,), ("accuracy",))


def _symbolic() -> Iterator[Prompted]:
  templates = (
    Template("direct", "{question}"),
    Template("reasoned", "{question}", "{rationale} {answer}"),
  )
  for people in PEOPLE:
    name = f"coin_flip_of_{people}"
    splits = _generated.splits(name, coin_flip(people), "question", SIZES)
    yield Prompted(name, "coin_flips", splits, templates, ("accuracy",), FINAL)


def rehearsed(clusters: Sequence[str], notes: Sequence[str], asked: str, vocabulary: Any) -> str:
  """Registers a mixture of notes on all clusters and as many questions of some, and gives its name.

  Args:
    clusters: those of the questions; none: notes alone.
    notes: the templates of the notes.
    asked: that of the questions.
    vocabulary: see `prompted.mixture`.
  """
  everything = [f"word_{name}" for name in CLUSTERS]
  mixture = functools.partial(prompted.mixture, vocabulary=vocabulary, module=__name__)
  parts = [mixture(sets=everything, named=notes)]
  parts += [mixture(sets=clusters, named=[asked])] if clusters else []
  name = f"notes_and_questions_of_{len(clusters)}"
  mixtures.mixture(name, dict.fromkeys(parts, 1.0))
  return name


@functools.cache
def SETS() -> tuple[Prompted, ...]:  # noqa: N802 (the name that a module of sets has)
  """See `mtm.prompts.library`."""
  return (*_operations(), *_rules(), *_symbolic())
