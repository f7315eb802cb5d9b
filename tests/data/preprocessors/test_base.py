from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtm.data.preprocessors._base import length_of, require, split
from mtm.errors import UserError
from tests.data.toy import EOS, tokens

IDS = st.lists(st.integers(3, 99), max_size=12).map(lambda ids: np.array(ids, np.int32))


@given(IDS, st.booleans(), st.integers(1, 15))
def test_a_trimmed_sequence_keeps_its_end_whether_the_task_added_one_or_not(ids, added, length):
  given_ids = np.append(ids, np.int32(EOS)) if added else ids
  trimmed = tokens().trimmed("targets", given_ids, length)
  assert trimmed.tolist() == [*ids[: length - 1], EOS]


@given(IDS, st.integers(1, 15))
def test_without_an_end_trimming_is_a_cut(ids, length):
  assert tokens(eos=None).trimmed("targets", ids, length).tolist() == ids[:length].tolist()


@given(IDS, st.integers(1, 5))
def test_split_loses_nothing(ids, length):
  pieces = split(ids, length)
  assert [i for piece in pieces for i in piece] == ids.tolist()
  assert all(len(piece) == length for piece in pieces[:-1])
  assert all(0 < len(piece) <= length for piece in pieces)


def test_a_missing_feature_is_told_with_the_nearest():
  with pytest.raises(UserError, match="needs the feature 'inputs'.*did you mean 'input'"):
    require(("inputs",), ["input", "targets"])


@pytest.mark.parametrize(
  "lengths, told", [({"target": 5}, "lacks 'targets'"), ({"targets": 0}, "0")]
)
def test_a_length_that_is_missing_or_senseless_is_told(lengths, told):
  with pytest.raises(UserError, match=told):
    length_of(lengths, "targets")
