"""The symbolic tasks of the chain-of-thought paper (2201.11903, §5), with rationales: no download.

The paper's training length is 2, and lengths 3 and 4 are out of its domain; others are here too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from mtm.prompts.prompted import Prompted
from mtm.prompts.template import Template
from mtm.tasks import _generated, _templates, _words

LENGTHS = (1, 2, 3, 4, 6, 8)
SIDES = ("tails", "heads")


def last_letters(length: int) -> Callable[[random.Random], dict[str, Any]]:
  """The last letters of a name of so many words, together: `Amy Brown` → `yn`."""

  def make(rng: random.Random) -> dict[str, Any]:
    firsts = (length + 1) // 2
    words = [rng.choice(_words.FIRST_NAMES) for _ in range(firsts)]
    words += [rng.choice(_words.LAST_NAMES) for _ in range(length - firsts)]
    name, answer = " ".join(words), "".join(word[-1] for word in words)
    steps = [f'"{word}" ends with "{word[-1]}".' for word in words]
    return {
      "name": name,
      "question": f'Take the last letters of the words in "{name}" and put them together.',
      "answer": answer,
      "rationale": " ".join([*steps, f'Together they are "{answer}".']),
    }

  return make


def coin_flip(length: int) -> Callable[[random.Random], dict[str, Any]]:
  """Whether a coin is still heads up after so many people have flipped it, or not."""

  def make(rng: random.Random) -> dict[str, Any]:
    people = rng.sample(_words.FIRST_NAMES, length)
    up, told, steps = True, [], ["The coin is heads up."]
    for person in people:
      flips = rng.random() < 0.5
      up ^= flips
      told.append(f"{person} {'flips' if flips else 'does not flip'} the coin.")
      steps.append(f"{person} {'flips' if flips else 'leaves'} it: {SIDES[up]} up.")
    return {
      "question": " ".join(["A coin is heads up.", *told, "Is the coin still heads up?"]),
      "choices": ["yes", "no"],
      "gold": int(not up),
      "rationale": " ".join(steps),
    }

  return make


LETTERS = _templates.joined(
  [Template("name", "{name} ->"), Template("short", "Last letters of {name}:")],
  _templates.open_questions()[:8],
)


def _set(name: str, make: _generated.Make, templates: tuple[Template, ...], few: bool) -> Prompted:
  every = (*templates, *_templates.reasoned())
  return _generated.made(name, "symbolic", make, every, extract=_templates.ANSWER, few=few)


CHOICES = _templates.choice_questions()
SETS = (
  *(_set(f"last_letters_{n}", last_letters(n), LETTERS, n < 3) for n in LENGTHS),
  *(_set(f"coin_flip_{n}", coin_flip(n), CHOICES, n < 2) for n in LENGTHS),
)
