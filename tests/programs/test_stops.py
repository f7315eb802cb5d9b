"""Texts that end an answer: the table finds them however tokens spell them, and rows end there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from mtm.data.vocabulary import Bytes
from mtm.decoding._base import View
from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.programs import stops
from tests.decoding.models import Trigram

PIECES = ("", "$", "a", "b", "\n", "\n\n", "a\n", "\nb", "Q", ": ")  # 0 pads, 1 ends


@dataclasses.dataclass(frozen=True)
class Pieces:
  """A vocabulary of few pieces, some of which hold parts of stops."""

  pad_id = 0
  eos_id = 1
  vocab_size = len(PIECES)

  def encode(self, text: str) -> list[int]:
    return [PIECES.index(letter) for letter in text]

  def decode(self, ids: Iterable[int]) -> str:
    return "".join(PIECES[i] for i in ids)


def stopped(ids: list[int], *until: str, size: int = len(PIECES)) -> bool:
  """Whether after these tokens nothing but the end is allowed."""
  rule = stops.until(Pieces(), size, until)
  assert rule is not None
  tokens = np.zeros((1, 1, 8), np.int32)
  tokens[0, 0, : len(ids)] = ids
  view = View(jnp.zeros((1, 1, size)), jnp.asarray(tokens), jnp.int32(len(ids)), None, 1)
  allowed = np.asarray(rule(view))[0, 0]
  assert allowed.all() or np.flatnonzero(allowed).tolist() == [1]
  return not allowed.all()


@pytest.mark.parametrize(
  ("ids", "said"),
  [([5], True), ([4, 4], True), ([2, 6, 7], True), ([4, 3, 4], False), ([4], False), ([], False),
   ([4, 0, 4], False), ([4, 2, 4, 4], True)],
)  # fmt: skip
def test_a_stop_is_seen_however_it_is_spelled(ids: list[int], said: bool) -> None:
  # Of a stop of two letters the last two tokens are looked at: padding does not stand between.
  assert stopped(ids, "\n\n") == said == ("\n\n" in Pieces().decode(ids) and 0 not in ids)


def test_any_of_several_stops_ends_and_an_empty_one_is_none() -> None:
  assert stopped([2, 8, 9], "\n\n", "", "Q:") and stopped([4, 8], "Qx", "\nQ")
  assert not stopped([8, 2], "Q:", "aa") and stops.until(Pieces(), 10, [""]) is None
  assert stopped([2, 3, 2, 2], "aba", "aa", size=12)  # a model of more ids than the vocabulary


def test_every_byte_is_its_letter() -> None:
  found = stops.pieces(Bytes(0), 260)
  assert [found[b + 3] for b in b"a \n"] == ["a", " ", "\n"] and found[0] == found[1] == ""


def test_a_text_ends_after_its_stop_and_not_at_the_longest() -> None:
  table = np.zeros((16, 10, 10, 10), np.float32)
  for last, then in {0: 2, 2: 4, 4: 4, 3: 3}.items():  # "a", then blank lines for ever
    table[:, :, last, then] = 9.0
  rule = stops.until(Pieces(), 10, ["\n\n"])
  assert rule is not None
  model: Any = Trigram()
  prompts = {"decoder_input_tokens": jnp.asarray([[0], [3]])}  # the second: "b" for ever
  for rules, length in (((rule,), 4), ((), 8)):
    found = generate(
      model, jnp.asarray(table), prompts, policy=Greedy(), max_length=8, constraints=rules
    )
    assert np.asarray(found.lengths)[:, 0].tolist() == [length, 8]
    assert np.asarray(found.tokens)[0, 0, :3].tolist() == [2, 4, 4]
