"""A lazy vocabulary costs nothing until it is used, and is then like any other."""

from __future__ import annotations

import copy

from mtm.data.lazy_vocabulary import lazy_seqio
from mtm.data.vocabulary import SentencePiece, from_seqio
from tests.data import tiny


def fails() -> SentencePiece:
  raise AssertionError("was looked for")


def test_nothing_is_looked_for_until_it_is_used():
  assert lazy_seqio(fails) == lazy_seqio(fails)
  copy.deepcopy(lazy_seqio(fails))


def test_it_is_found_once():
  calls = []

  def find() -> SentencePiece:
    calls.append(1)
    return tiny.vocabulary()

  vocabulary = lazy_seqio(find)
  assert vocabulary.encode_tf("as is").numpy().tolist() == tiny.vocabulary().encode("as is")
  assert vocabulary.extra_ids == 100 and vocabulary.vocab_size == 500
  assert from_seqio(vocabulary) == tiny.vocabulary()
  assert len(calls) == 1


def test_it_equals_an_eager_one_of_the_same_model():
  assert lazy_seqio(tiny.vocabulary) == tiny.vocabulary().to_seqio()
  assert tiny.vocabulary().to_seqio() != lazy_seqio(lambda: tiny.vocabulary(3))
  assert lazy_seqio(tiny.vocabulary) != lazy_seqio(lambda: tiny.vocabulary(3))
