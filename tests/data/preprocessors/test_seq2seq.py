from __future__ import annotations

import numpy as np
import pytest

from mtm.data.preprocessors.seq2seq import build
from mtm.errors import UserError
from mtm.objectives.seq2seq import Seq2Seq
from tests.data.toy import EOS, tokens

RNG = np.random.default_rng(0)
LENGTHS = {"inputs": 5, "targets": 3}


def pieces(inputs, targets, eos=EOS):
  example = {"inputs": np.array(inputs, np.int32), "targets": np.array(targets, np.int32)}
  made = build(Seq2Seq(), LENGTHS).pieces(example, tokens(eos), RNG)
  return [tuple(column.tolist() for column in piece) for piece in made]


def test_long_sides_are_trimmed_and_keep_their_end():
  assert pieces([3, 4, 5, 6, 7, 8, EOS], [9, 8, 7, EOS]) == [([3, 4, 5, 6, EOS], [9, 8, EOS])]


def test_short_sides_are_as_the_task_made_them():
  assert pieces([3, 4, EOS], [9, EOS]) == [([3, 4, EOS], [9, EOS])]


def test_where_features_have_no_end_none_is_added():
  assert pieces([3, 4], [9, 8, 7, 6], eos=None) == [([3, 4], [9, 8, 7])]
  assert pieces([], [], eos=None) == []


def test_a_task_without_inputs_is_refused():
  with pytest.raises(UserError, match="needs the feature 'inputs'"):
    build(Seq2Seq(), LENGTHS).reads({"targets"})
