"""Special ids are those of the checkpoint, and go into what is trained from it."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest

from mtm.errors import UserError
from mtm.interop import Foreign
from mtm.programs.special import Special

DECODER = types.SimpleNamespace(inputs=("decoder_input_tokens",))
PAIR = types.SimpleNamespace(inputs=("encoder_input_tokens", "decoder_input_tokens"))


def data(begin_id: int | None = None, eos_id: int | None = None) -> Any:
  vocabulary = types.SimpleNamespace(eos_id=eos_id)
  return types.SimpleNamespace(begin_id=begin_id, vocabulary=lambda: vocabulary)


def test_they_come_back_from_json() -> None:
  for ids in (Special(), Special(2, 1, (2, 7), 0), Special(None, None, 5)):
    assert Special.of(json.loads(json.dumps(ids.json()))) == ids
  assert Special.of({"begin_id": 3, "another": 4}) == Special(3)


def test_they_are_those_of_a_foreign_checkpoint() -> None:
  foreign = Foreign("", lambda: None, {}, None, (), begin_id=2, eos_id=(2, 3), pad_id=1, bos_id=0)  # type: ignore[arg-type]
  assert Special.of(foreign) == Special(2, 1, (2, 3), 0)


def test_what_training_feeds_first() -> None:
  assert Special(2, bos_id=5).fed(PAIR, "x") == 2
  assert Special(None, bos_id=5).fed(DECODER, "x") == 5
  assert Special(None).fed(DECODER, "x") == 0
  with pytest.raises(UserError, match="^x does not say what its decoder begins with: put decoder_"):
    Special(None, bos_id=5).fed(PAIR, "x")


def test_trained_models_end_as_their_data_do() -> None:
  before = Special(None, 1, (2, 3), 5, generation={"forced_eos_token_id": 2})
  assert before.trained(DECODER, data(), "x") == Special(5, 1, (2, 3), 5)
  assert before.trained(DECODER, data(eos_id=4), "x") == Special(5, 1, 4, 5)
  assert before.trained(PAIR, data(begin_id=9), "x") == Special(9, 1, (2, 3), 5)
