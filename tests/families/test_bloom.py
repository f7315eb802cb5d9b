"""BLOOM: its sizes, its fused projection and what it refuses; logits are in test_recorded.py."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families import bloom as module
from mtm.families._published import Config
from mtm.families.bloom import FusedHeads, bloom
from mtm.types import Model


@pytest.mark.parametrize(
  ("model", "wanted"),
  [
    # The model cards of bigscience/bloom-560m and bloom-7b1 (section "Model Architecture").
    (bloom(24, 1024, 16, 250_880), 559_214_592),
    (bloom(30, 4096, 32, 250_880), 7_069_016_064),
  ],
)
def test_parameter_count_is_the_published_one(model: Model, wanted: int) -> None:
  batch = {"decoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted


def test_each_head_has_its_query_key_and_value_side_by_side() -> None:
  heads, head_dim, embed = 3, 2, 5
  theirs = np.arange(heads * 3 * head_dim * embed, dtype=np.float32).reshape(-1, embed)
  fused = FusedHeads(heads)
  query, key, value = fused.load(theirs)
  assert query.shape == key.shape == value.shape == (embed, heads, head_dim)
  for head in range(heads):
    rows = theirs[head * 3 * head_dim : (head + 1) * 3 * head_dim].reshape(3, head_dim, embed)
    for ours, row in zip((query, key, value), rows, strict=True):
      np.testing.assert_array_equal(ours[:, head].T, row)
  np.testing.assert_array_equal(fused.save(query, key, value)[0], theirs)
  bias = theirs[:, 0]
  np.testing.assert_array_equal(fused.save(*fused.load(bias))[0], bias)


def test_the_names_of_the_first_configs_are_read() -> None:
  """As bigscience/bloom-560m has them, with what Megatron left there."""
  config = Config({
    "model_type": "bloom", "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16,
    "vocab_size": 250880, "n_inner": None, "seq_length": 2048, "offset_alibi": 100,
    "attention_softmax_in_fp32": True, "masked_softmax_fusion": True, "skip_bias_add": True,
    "bias_dropout_fusion": True, "pretraining_tp": 1, "hidden_dropout": 0.0,
  })  # fmt: skip
  arguments = module.HF.arguments(config)
  config.finish()
  assert [arguments[name] for name in ("layers", "embed", "heads")] == [24, 1024, 16]


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("apply_residual_connection_post_layernorm", True),
    ("tie_word_embeddings", False),
    ("n_inner", 100),
    ("hidden_dropout", 0.1),
  ],
)
def test_what_it_cannot_honour_is_refused_by_name(name: str, value: Any) -> None:
  with pytest.raises(UserError, match=name):
    module.HF.arguments(Config({"vocab_size": 40, name: value}))
