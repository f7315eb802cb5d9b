from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtm.data.preprocessors.causal_lm import build
from mtm.errors import UserError
from mtm.objectives.causal_lm import CausalLM
from tests.data.toy import EOS, tokens

RNG = np.random.default_rng(0)


@given(st.lists(st.integers(3, 99), min_size=1, max_size=30), st.integers(1, 9), st.booleans())
def test_every_token_and_one_end_is_a_target_once(ids, length, added):
  example = {"targets": np.array([*ids, EOS] if added else ids, np.int32)}
  pieces = build(CausalLM(), {"targets": length}).pieces(example, tokens(), RNG)
  assert [i for (piece,) in pieces for i in piece] == [*ids, EOS]
  assert max(len(piece) for (piece,) in pieces) <= length


@pytest.mark.parametrize("ids", [[], [EOS]])
def test_an_empty_document_gives_nothing(ids):
  example = {"targets": np.array(ids, np.int32)}
  assert build(CausalLM(), {"targets": 4}).pieces(example, tokens(), RNG) == []


def test_the_length_of_targets_is_needed():
  with pytest.raises(UserError, match="lacks 'targets'"):
    build(CausalLM(), {"inputs": 4})
