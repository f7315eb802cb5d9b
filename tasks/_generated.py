"""Sets that a seeded generator makes: distinct questions, and none in two splits."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping

from mtm.data.sources import stdlib
from mtm.prompts.prompted import Prompted, Reader
from mtm.prompts.template import Example, Template

Make = Callable[[random.Random], Example]

# GPT-3 asks 2,000 of each kind (2005.14165, §3.9); a space of 10,000 questions has so many here.
SIZES = {"train": 10_000, "validation": 500, "test": 2_000}
SHARES = {"test": 25, "validation": 5}  # per cent of all possible questions; train has the rest
GIVEN_UP = 2_000  # draws in a row that bring nothing new: there is no more


def made(
  name: str,
  cluster: str,
  make: Make,
  templates: tuple[Template, ...],
  metric: str = "exact_match",
  about: str = "question",
  extract: str | None = None,
  few: bool = False,
) -> Prompted:
  """A set of generated questions.

  Args:
    name, cluster, templates, extract: see `Prompted`.
    make, about: see `splits`.
    metric: the only one.
    few: whether there may be fewer questions than `SIZES` wants, so that they must be counted.
  """
  sizes = {} if few else SIZES
  return Prompted(
    name, cluster, splits(name, make, about), templates, (metric,), extract, "generated",
    stdlib.version(), sizes,
  )  # fmt: skip


def splits(
  name: str, make: Make, about: str = "question", sizes: Mapping[str, int] = SIZES
) -> dict[str, Reader]:
  """Split → its records, made anew and alike at every call.

  Args:
    name: of the set; seeds the generator.
    make: draws one record.
    about: the field that tells one question from another; a hash of it decides on the split.
    sizes: split → records, fewer where there are not so many questions.
  """
  return {
    split: functools.partial(_draw, name, make, about, split, size) for split, size in sizes.items()
  }


def split_of(text: str) -> str:
  """The split of a question."""
  number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100
  for split, share in SHARES.items():
    if number < share:
      return split
    number -= share
  return "train"


def _draw(name: str, make: Make, about: str, split: str, size: int) -> Iterator[Example]:
  rng = random.Random(f"{name}:{split}")
  seen: set[str] = set()
  failed = 0
  while len(seen) < size and failed < GIVEN_UP:
    example = make(rng)
    text = str(example[about])
    if text in seen or split_of(f"{name}:{text}") != split:
      failed += 1
      continue
    failed = 0
    seen.add(text)
    yield example
