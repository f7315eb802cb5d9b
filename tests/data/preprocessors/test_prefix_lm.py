from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtm.data.features import Piece
from mtm.data.preprocessors.prefix_lm import build
from mtm.errors import UserError
from mtm.objectives.prefix_lm import PrefixLM
from tests.data.toy import EOS, tokens

BOTH = {"inputs": 4, "targets": 3}


def made(example, lengths, seed=0, **fields):
  example = {name: np.array(ids, np.int32) for name, ids in example.items()}
  rng = np.random.default_rng(seed)
  pieces = build(PrefixLM(**fields), lengths).pieces(example, tokens(), rng)
  return [[column.tolist() for column in piece] for piece in pieces]


def test_inputs_are_the_prefix_of_the_targets():
  (piece,) = made({"inputs": [3, 4, EOS], "targets": [7, EOS]}, BOTH)
  assert piece == [[3, 4, EOS, 7, EOS], [0, 0, 0, 1, 1], [1, 1, 1, 1, 0]]


def test_both_are_trimmed_to_their_lengths():
  (piece,) = made({"inputs": range(3, 20), "targets": range(30, 40)}, BOTH)
  assert piece[0] == [3, 4, 5, EOS, 30, 31, EOS]


def test_the_prefix_may_be_predicted_too():
  (piece,) = made({"inputs": [3, EOS], "targets": [7, EOS]}, BOTH, loss_on_prefix=True)
  assert piece[1] == [1, 1, 1, 1]


@given(st.lists(st.integers(3, 99), min_size=1, max_size=40), st.integers(0, 2**32))
def test_documents_are_cut_at_a_point_that_leaves_both_halves_a_token(ids, seed):
  pieces = made({"targets": ids}, {"targets": 8}, seed)
  assert [i for piece in pieces for i in piece[0]] == [*ids, EOS]
  for text, weights, visible in pieces:
    prefix = weights.count(0)
    assert weights == [0] * prefix + [1] * (len(text) - prefix)
    assert visible == [1] * (prefix + 1) + [0] * (len(text) - prefix - 1)
    assert 1 <= prefix < len(text) or len(text) == 1 and prefix == 0


def test_every_cut_is_as_likely():
  prefixes = [made({"targets": range(3, 8)}, {"targets": 6}, s)[0][1].count(0) for s in range(2000)]
  counts = np.bincount(prefixes, minlength=6)[1:]
  # Chi-square with 4 degrees of freedom exceeds 23.5 once in 10,000 trials; the seeds are fixed.
  assert ((counts - 400) ** 2 / 400).sum() < 23.5


def test_no_visible_position_holds_what_is_predicted():
  preprocessor = build(PrefixLM(), {"targets": 8})
  example = {"targets": np.arange(3, 9, dtype=np.int32)}
  columns = preprocessor.pieces(example, tokens(), np.random.default_rng(1))
  batch = preprocessor.layout.assemble([[Piece((0, 0, 0, 0), c) for c in columns]], 1)
  seen = batch["decoder_input_tokens"][batch["decoder_causal_attention"] > 0]
  predicted = batch["decoder_target_tokens"][batch["decoder_loss_weights"] > 0]
  assert not set(seen.tolist()) & set(predicted.tolist())


def test_a_row_holds_inputs_and_targets():
  assert build(PrefixLM(), BOTH).layout.lengths == {"decoder": 7}
  assert build(PrefixLM(), {"targets": 3}).layout.lengths == {"decoder": 3}


def test_inputs_without_a_length_are_refused():
  preprocessor = build(PrefixLM(), {"targets": 3})
  assert preprocessor.reads({"targets"}) == ("targets",)
  with pytest.raises(UserError, match="lacks 'inputs'"):
    preprocessor.reads({"inputs", "targets"})
