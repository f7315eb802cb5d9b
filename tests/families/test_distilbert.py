"""DistilBERT: its size and its config's words; its numbers are in test_recorded.py."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families._published import Config
from mtm.families.distilbert import HF, distilbert


def test_parameter_count_is_the_published_one() -> None:
  # transformers' DistilBertForMaskedLM of distilbert-base-uncased; the paper says 66M (table 3).
  model = distilbert(6, 768, 12, 30522)
  batch = {"encoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == 66_985_530


def test_words_of_the_published_config_that_say_nothing_are_passed_over() -> None:
  config = Config(
    {"vocab_size": 37, "tie_weights_": True, "qa_dropout": 0.1, "sinusoidal_pos_embds": True}
  )
  assert HF.arguments(config)["layers"] == 6
  config.finish()


def test_two_shares_of_dropout_are_refused() -> None:
  with pytest.raises(UserError, match="one value for all of them"):
    HF.arguments(Config({"vocab_size": 37, "dropout": 0.1, "attention_dropout": 0.2}))
