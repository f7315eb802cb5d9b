"""Model: a Linen module as pure functions over plain dicts."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families.bert import bert
from mtm.families.gpt2 import gpt2


def test_models_are_values_that_jit_can_hash() -> None:
  model = gpt2(1, 8, 2, 11)
  assert hash(model) == hash(model)
  batch = {"decoder_input_tokens": np.zeros((1, 4), np.int32)}
  shapes = jax.jit(lambda key: model.init(key, batch)).eval_shape(jax.random.key(0))
  leaves = jax.tree.leaves(shapes)
  assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves), "a box was left"


def test_a_batch_of_the_wrong_kind_is_told_in_one_sentence() -> None:
  model = bert(1, 8, 2, 11)
  with pytest.raises(UserError) as error:
    model.init(jax.random.key(0), {"decoder_input_tokens": np.zeros((1, 4), np.int32)})
  assert str(error.value) == (
    "the model (Encoder) needs encoder_input_tokens, but the batch has decoder_input_tokens:"
    " take an objective that makes what this model reads"
  )


def test_a_sequence_longer_than_the_model_is_told() -> None:
  model = gpt2(1, 8, 2, 11, max_length=4)
  with pytest.raises(UserError, match="decoder_input_tokens is 5 long .* end at 4"):
    model.init(jax.random.key(0), {"decoder_input_tokens": np.zeros((1, 5), np.int32)})
