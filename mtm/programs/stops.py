"""Texts that end an answer, as a table over tokens, so that a batch need not be written to the end.

Aho and Corasick's automaton (10.1145/360825.360855): a state is how much of a stop is spelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtm.decoding.constraints import Until

ANCHOR = "a"  # stands before a token, whose own blank in front is then told


def until(vocabulary: Any, size: int, stops: Sequence[str]) -> Until | None:
  """What ends texts once they hold one of `stops`; None where nothing does.

  Args:
    vocabulary: text ↔ ids.
    size: ids of the model; those beyond the vocabulary spell nothing.
    stops: texts; empty ones are none.
  """
  known = [stop for stop in stops if stop]
  if not known:
    return None
  prefixes = sorted({stop[:end] for stop in known for end in range(len(stop))}, key=len)
  numbers = {prefix: number for number, prefix in enumerate(prefixes)}
  letters = set("".join(known))
  table = np.zeros((len(prefixes) + 1, size), np.int32)
  table[-1] = len(prefixes)
  for token, piece in enumerate(pieces(vocabulary, size)):
    if not piece:  # spells nothing: all stays as it was
      table[:-1, token] = np.arange(len(prefixes))
    elif letters & set(piece):
      table[:-1, token] = [_after(prefix + piece, known, numbers) for prefix in prefixes]
  return Until(table, max(map(len, known)))


def pieces(vocabulary: Any, size: int) -> list[str]:
  """What each id adds to a text."""
  before = vocabulary.encode(ANCHOR)
  head = vocabulary.decode(before)
  ends = {vocabulary.eos_id, vocabulary.pad_id}
  found = []
  for token in range(size):
    known = token < vocabulary.vocab_size and token not in ends
    text = vocabulary.decode([*before, token]) if known else head
    found.append(text[len(head) :] if text.startswith(head) else "")
  return found


def _after(text: str, stops: Sequence[str], numbers: dict[str, int]) -> int:
  """The state after a text: the longest end of it that begins a stop, or the last if it has one."""
  if any(stop in text for stop in stops):
    return len(numbers)
  return next(numbers[text[start:]] for start in range(len(text) + 1) if text[start:] in numbers)
