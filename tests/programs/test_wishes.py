"""What a checkpoint asks of generation becomes constraints, or is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mtm
from mtm.decoding.constraints import Forced, MinLength, NoRepeat
from mtm.programs import wishes
from tests.families import recorded

ASKED = {"forced_bos_token_id": 0, "min_length": 4, "no_repeat_ngram_size": 3}


def test_an_answer_heeds_all_and_counts_its_begin() -> None:
  found = wishes.constraints(ASKED, True, 9)
  assert found == [Forced(0, (0,)), NoRepeat(3), MinLength(3)]
  assert wishes.constraints({"min_new_tokens": 4, "min_length": 9}, True, 9) == [MinLength(4)]
  assert wishes.constraints({"forced_eos_token_id": [2, 5]}, False, 9) == [Forced(8, (2, 5))]
  assert wishes.unheeded({**ASKED, "repetition_penalty": 1.0, "bad_words_ids": []}, True) == []


def test_what_counts_a_prompt_too_and_what_nobody_knows_is_named() -> None:
  assert wishes.constraints(ASKED, False, 9) == []
  told = wishes.unheeded({**ASKED, "repetition_penalty": 1.2}, False)
  assert told == ["min_length = 4", "no_repeat_ngram_size = 3", "repetition_penalty = 1.2"]


def test_a_handle_generates_as_its_directory_asks(tmp_path: Path) -> None:
  folder = recorded.directory("bart", tmp_path / "theirs")
  asked = {"forced_bos_token_id": 11, "forced_eos_token_id": None, "min_new_tokens": 5}
  (folder / "generation_config.json").write_text(json.dumps(asked))
  handle = mtm.load(folder)
  inputs = [[5, 9, 7], [8, 20]]
  for found in handle.generate(inputs, 6):
    assert found[0] == 11 and len(found) >= 5
  (folder / "generation_config.json").write_text(json.dumps({"repetition_penalty": 1.3}))
  with pytest.warns(UserWarning, match="does not heed repetition_penalty = 1.3"):
    free = mtm.load(folder).generate(inputs, 6)
  assert np.any([found[:1] != [11] for found in free])
