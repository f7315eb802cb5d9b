import dataclasses

import jax
import numpy as np
import pytest
import scipy.special

from mtm.data.vocabulary import Numbers
from mtm.decoding.beam import Beam
from mtm.errors import UserError
from mtm.programs.modes import Predict, Score, Setting
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from tests.decoding.models import EOS, decoder, encoder_decoder


def setting(model, params, batch_size=2):
  plan = Plan(mesh(devices=jax.devices()[:1]))
  return Setting(model, params, plan, Numbers(13, EOS), batch_size)


EXAMPLES = [
  {"inputs": "5 3", "inputs_ids": [5, 3], "targets_ids": [6, 2, 1], "tag": "a"},
  {"inputs": "4", "inputs_ids": [4], "targets_ids": [7, 1], "tag": "b"},
  {"inputs": "2 9 9", "inputs_ids": [2, 9, 9], "targets_ids": [3, 3, 3, 1], "tag": "c"},
]


def test_prediction_is_a_text_and_other_fields_are_kept():
  rows = list(Predict(max_length=4).rows(setting(*decoder()), enumerate(EXAMPLES)))
  assert [row["tag"] for row in rows] == ["a", "b", "c"]
  assert all(isinstance(row["prediction"], str) and row["score"] < 0 for row in rows)
  assert "inputs_ids" not in rows[0]


def test_several_hypotheses_are_lists_best_first():
  (row,) = Predict(Beam(3), max_length=4).rows(setting(*decoder()), enumerate(EXAMPLES[:1]))
  assert 1 <= len(row["prediction"]) == len(row["score"]) <= 3
  assert row["score"] == sorted(row["score"], reverse=True)


@pytest.mark.parametrize("make", [decoder, encoder_decoder], ids=["decoder", "encoder-decoder"])
def test_score_is_the_log_likelihood_of_the_targets_given_the_inputs(make):
  model, params = make()
  rows = list(Score().rows(setting(model, params), enumerate(EXAMPLES)))
  for row, example in zip(rows, EXAMPLES, strict=True):
    inputs, targets = example["inputs_ids"], example["targets_ids"]
    encoder = "encoder_input_tokens" in model.inputs
    line = targets if encoder else inputs + targets
    batch = {"decoder_input_tokens": np.asarray([[0, *line[:-1]]])}
    if encoder:
      batch["encoder_input_tokens"] = np.asarray([inputs])
    logits = np.asarray(model.apply(params, batch).logits[0], np.float64)
    log_probs = scipy.special.log_softmax(logits, axis=-1)
    expected = sum(log_probs[i, line[i]] for i in range(len(line) - len(targets), len(line)))
    # Float32 sums of a few log-probabilities, in another order.
    assert row["score"] == pytest.approx(expected, rel=1e-4)
    assert row["tokens"] == len(targets)


def test_without_a_begin_nothing_can_follow_an_encoder():
  without = dataclasses.replace(setting(*encoder_decoder()), begin_id=None)
  for mode in (Predict(max_length=2), Score()):
    with pytest.raises(UserError, match="the checkpoint does not say what its decoder begins with"):
      list(mode.rows(without, enumerate(EXAMPLES)))


def test_the_end_is_the_checkpoints_or_the_vocabularys():
  with_vocabulary = setting(*decoder())
  (endless,) = Predict(max_length=6).rows(
    dataclasses.replace(with_vocabulary, eos_id=(99,)), enumerate(EXAMPLES[:1])
  )
  said = [int(i) for i in endless["prediction"].split()]
  ends = dataclasses.replace(with_vocabulary, eos_id=(said[2], said[3]))
  (row,) = Predict(max_length=6).rows(ends, enumerate(EXAMPLES[:1]))
  first = min(said.index(said[2]), said.index(said[3]))
  assert [int(i) for i in row["prediction"].split()] == said[:first]


def test_an_example_without_targets_cannot_be_scored():
  examples = [EXAMPLES[0], {"inputs": "4", "inputs_ids": [4]}]
  with pytest.raises(UserError, match="example 1 has no targets"):
    list(Score().rows(setting(*decoder()), enumerate(examples)))
