"""OPT: its sizes and what it refuses; logits are in test_recorded.py and tests/parity."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families import opt as module
from mtm.families._published import Config
from mtm.families.opt import opt
from mtm.types import Model


@pytest.mark.parametrize(
  ("model", "wanted"),
  [
    # Counted by transformers 5.24's OPTForCausalLM under the configs of facebook/opt-125m, -350m
    # and -1.3b.
    (opt(12, 768, 12, 50272), 125_239_296),
    (opt(24, 1024, 16, 50272, token_embed=512, pre_norm=False), 331_196_416),
    (opt(24, 2048, 32, 50272), 1_315_758_080),
  ],
)
def test_parameter_count_is_the_published_one(model: Model, wanted: int) -> None:
  batch = {"decoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("enable_bias", False),
    ("layer_norm_elementwise_affine", False),
    ("_remove_final_layer_norm", True),
    ("activation_dropout", 0.1),
    ("layerdrop", 0.1),
    ("tie_word_embeddings", False),
  ],
)
def test_what_it_cannot_honour_is_refused_by_name(name: str, value: Any) -> None:
  with pytest.raises(UserError, match=name):
    module.HF.arguments(Config({"vocab_size": 40, name: value}))


def test_embeddings_are_not_dropped() -> None:
  """Without layers' dropout nothing is left to drop: section 2.2 of the paper."""
  model = opt(1, 16, 4, 40, max_length=32)
  assert model.module.decoder.dropout == 0.0
