from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtm.data.preprocessors.mlm import build
from mtm.errors import UserError
from mtm.objectives.mlm import MaskedLM
from tests.data.toy import EOS, EXTRA, VOCAB, tokens

MASK = VOCAB - 1
IDS = st.lists(st.integers(3, VOCAB - EXTRA - 1), min_size=1, max_size=120)


def masked(ids, length=64, seed=0, facts=None, **fields):
  example = {"targets": np.array(ids, np.int32)}
  rng = np.random.default_rng(seed)
  return build(MaskedLM(**fields), {"targets": length}).pieces(example, facts or tokens(), rng)


@given(IDS, st.integers(0, 2**32))
def test_targets_are_the_text_and_only_chosen_inputs_differ(ids, seed):
  pieces = masked(ids, seed=seed)
  assert [int(i) for _, targets, _ in pieces for i in targets] == [*ids, EOS]
  for inputs, targets, weights in pieces:
    np.testing.assert_array_equal(inputs[weights == 0], targets[weights == 0])
    assert not weights[targets == EOS].any()
    text = int((targets != EOS).sum())
    assert weights.sum() == (max(1, round(0.15 * text)) if text else 0)


def test_eighty_ten_ten():
  ids = np.random.default_rng(0).integers(3, VOCAB - EXTRA, 200_000).tolist()
  inputs, targets, weights = (np.concatenate(c) for c in zip(*masked(ids, 500), strict=True))
  chosen = weights == 1
  n = chosen.sum()
  became_mask = (inputs[chosen] == MASK).mean()
  stayed = (inputs[chosen] == targets[chosen]).mean()
  other = inputs[chosen][(inputs[chosen] != MASK) & (inputs[chosen] != targets[chosen])]
  # Four standard errors; a random id is the token itself once in as many as there are ids.
  same = 0.1 / (VOCAB - EXTRA - 3)
  assert abs(became_mask - 0.8) < 4 * np.sqrt(0.8 * 0.2 / n)
  assert abs(stayed - 0.1 - same) < 4 * np.sqrt(0.1 * 0.9 / n)
  assert set(np.unique(other)) == set(range(3, VOCAB - EXTRA))
  assert abs(n / len(targets) - 0.15) < 0.001


def test_shares_are_fields():
  ids = list(range(3, 200))
  (piece,) = masked(ids, 256, mask_rate=0.5, mask_share=0.0, random_share=0.0)
  np.testing.assert_array_equal(piece[0], piece[1])
  assert piece[2].sum() == round(0.5 * 197)
  (piece,) = masked(ids, 256, mask_rate=0.5, mask_share=1.0, random_share=0.0, mask_id=7)
  assert (piece[0][piece[2] == 1] == 7).all()


@given(IDS, st.integers(0, 2**32))
def test_whole_words_are_chosen_together(ids, seed):
  for _, targets, weights in masked(ids, seed=seed, whole_word=True, mask_rate=0.3):
    text = targets != EOS
    word = np.cumsum(targets % 2 == 0)  # in the toy vocabulary even ids begin words
    for number in np.unique(word[text]):
      of_word = weights[text & (word == number)]
      assert of_word.min() == of_word.max()
    if text.any():
      assert weights.sum() >= 1


def test_whole_words_reach_the_rate():
  ids = np.random.default_rng(0).integers(3, VOCAB - EXTRA, 20_000).tolist()
  weights = np.concatenate([w for _, _, w in masked(ids, 500, whole_word=True)])
  assert 0.145 < weights.mean() <= 0.151  # words that would exceed the number are passed over


def test_words_are_not_chosen_one_by_one():
  word = [4] + [5] * 9
  ids = word * 20
  (piece,) = masked(ids, 256, whole_word=True)
  assert sorted(set(piece[2][:200].reshape(20, 10).sum(1).tolist())) == [0, 10]


def test_static_is_told_to_the_pipeline():
  assert build(MaskedLM(dynamic=False), {"targets": 4}).static
  assert not build(MaskedLM(), {"targets": 4}).static


def test_a_mask_outside_the_vocabulary_is_told():
  with pytest.raises(UserError, match="mask_id = 300"):
    build(MaskedLM(mask_id=300), {"targets": 4}).check(tokens())


@pytest.mark.parametrize("fields", [{"mask_rate": 0.0}, {"mask_share": 0.9, "random_share": 0.2}])
def test_shares_out_of_range_are_told(fields):
  with pytest.raises(UserError, match="mask_rate"):
    build(MaskedLM(**fields), {"targets": 4})
