from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mtm.data.preprocessors.classification import build
from mtm.errors import UserError
from mtm.objectives.classification import Classification
from tests.data.toy import EOS, tokens

CLS, SEP = 101, 102
RNG = np.random.default_rng(0)
FACTS = dataclasses.replace(
  tokens(), eos={"inputs": None, "second": None}, begin=CLS, end=SEP, classes=3
)


def piece(objective, length, facts=FACTS, **texts):
  example = {name: np.array(ids, np.int32) for name, ids in texts.items()}
  example["label"] = np.array([2], np.int32)
  (made,) = build(objective, {"inputs": length}).pieces(example, facts, RNG)
  return [column.tolist() for column in made]


def test_a_text_stands_between_its_tokens_and_the_first_one_tells_its_class():
  ids, targets, weights = piece(Classification(classes=3), 8, inputs=[5, 6, 7])
  assert ids == [CLS, 5, 6, 7, SEP]
  assert targets == [2, 0, 0, 0, 0] and weights == [1, 0, 0, 0, 0]


def test_a_long_text_is_trimmed_and_an_end_of_the_task_s_own_is_not_doubled():
  facts = dataclasses.replace(FACTS, end=EOS, eos={"inputs": EOS})
  ids, *_ = piece(Classification(classes=3), 5, facts, inputs=[5, 6, 7, 8, 9, EOS])
  assert ids == [CLS, 5, 6, 7, EOS]


def test_an_empty_text_keeps_its_class():
  assert piece(Classification(classes=3), 5, inputs=[])[0] == [CLS, SEP]


def test_a_pair_has_token_types_as_bert_s():
  ids, targets, _, types = piece(
    Classification(classes=3, pairs=True), 12, inputs=[5, 6], second=[7, 8]
  )
  assert ids == [CLS, 5, 6, SEP, 7, 8, SEP]
  assert types == [0, 0, 0, 0, 1, 1, 1]
  assert targets[0] == 2


def test_a_pair_of_roberta_s_has_two_separators_and_no_types():
  objective = Classification(classes=3, pairs=True, separators=2, token_types=False)
  ids, _, weights = piece(objective, 12, inputs=[5, 6], second=[7, 8])
  assert ids == [CLS, 5, 6, SEP, SEP, 7, 8, SEP] and sum(weights) == 1
  assert "encoder_token_types" not in build(objective, {"inputs": 12}).layout.features()


@pytest.mark.parametrize(
  ("first", "second", "kept"), [(6, 1, (4, 1)), (1, 6, (1, 4)), (6, 6, (3, 2)), (2, 3, (2, 3))]
)
def test_the_longer_text_of_a_pair_gives(first, second, kept):
  texts = {"inputs": [5] * first, "second": [7] * second}
  ids, *_ = piece(Classification(classes=3, pairs=True), 8, **texts)
  assert (ids.count(5), ids.count(7)) == kept


def test_ids_of_one_s_own_replace_those_of_the_vocabulary():
  facts = dataclasses.replace(FACTS, begin=None)
  ids, *_ = piece(Classification(classes=3, begin_id=7, end_id=8), 8, facts, inputs=[5])
  assert ids == [7, 5, 8]


def check(facts, **fields):
  build(Classification(**fields), {"inputs": 8}).check(facts)


def test_what_does_not_serve_is_told():
  with pytest.raises(UserError, match="begin_id .* names no such token: bind Classification.begin"):
    check(dataclasses.replace(FACTS, begin=None), classes=3)
  with pytest.raises(UserError, match="has no id 300"):
    check(FACTS, classes=3, end_id=300)
  with pytest.raises(UserError, match="3 classes and the objective 2: set CLASSES to 3"):
    check(FACTS)
  with pytest.raises(UserError, match="lacks 'inputs'"):
    build(Classification(), {"targets": 8})
  with pytest.raises(UserError, match="5 tokens at least"):
    build(Classification(pairs=True), {"inputs": 4})
  with pytest.raises(UserError, match="at least 1 between"):
    build(Classification(separators=0), {"inputs": 9})
  with pytest.raises(UserError, match="needs the feature 'label'"):
    build(Classification(), {"inputs": 8}).reads({"inputs", "targets"})
