"""BERT against transformers (tests/fixtures/hf/README.md)."""

from __future__ import annotations

import jax
import numpy as np

from mtm.families.bert import bert, bert_pairs, next_sentence
from mtm.objectives.mlm import MaskedLM
from tests.contracts.discovered import batch_for, parameters
from tests.families import hf_names
from tests.families.hf_names import HEADS, Row, both, from_heads, into_heads, linear, same

LAYER = "encoder/stack/period_0"
L = "bert.encoder.layer.{}"
TO_HEADS = into_heads(HEADS)
ROWS: list[Row] = [
  ("tokens/embedding", "bert.embeddings.word_embeddings.weight", same),
  ("encoder/position/table/embedding", "bert.embeddings.position_embeddings.weight", same),
  ("encoder/token_types/embedding", "bert.embeddings.token_type_embeddings.weight", same),
  *both("encoder/embed_norm", "bert.embeddings.LayerNorm", "scale", same),
  *both(f"{LAYER}/mixer/query", f"{L}.attention.self.query", "kernel", TO_HEADS, TO_HEADS),
  *both(f"{LAYER}/mixer/key", f"{L}.attention.self.key", "kernel", TO_HEADS, TO_HEADS),
  *both(f"{LAYER}/mixer/value", f"{L}.attention.self.value", "kernel", TO_HEADS, TO_HEADS),
  *both(f"{LAYER}/mixer/out", f"{L}.attention.output.dense", "kernel", from_heads),
  *both(f"{LAYER}/mixer_norm", f"{L}.attention.output.LayerNorm", "scale", same),
  *both(f"{LAYER}/channel/wi", f"{L}.intermediate.dense", "kernel", linear),
  *both(f"{LAYER}/channel/wo", f"{L}.output.dense", "kernel", linear),
  *both(f"{LAYER}/channel_norm", f"{L}.output.LayerNorm", "scale", same),
  *both("head/dense", "cls.predictions.transform.dense", "kernel", linear),
  *both("head/norm", "cls.predictions.transform.LayerNorm", "scale", same),
  ("head/bias", "cls.predictions.bias", same),
]


def test_logits_loss_and_gradients_are_those_of_transformers() -> None:
  arrays = hf_names.load("bert")
  targets = arrays["in/targets"]
  batch = {
    "encoder_input_tokens": arrays["in/input_ids"],
    "encoder_token_types": arrays["in/token_type_ids"],
    "encoder_target_tokens": np.maximum(targets, 0),
    "encoder_loss_weights": (targets >= 0).astype(np.int32),
  }
  model = bert(2, 16, HEADS, 40, max_length=24, mlp=24, dropout=0.0)
  hf_names.check(model, MaskedLM(), arrays, ROWS, batch)


def test_parameter_count_is_the_published_one() -> None:
  # BERT base uncased without its pooler: 109,482,240 with it (590,592), plus the MLM head's own
  # 768² + 768 + 2 · 768 + 30522.
  model = bert(12, 768, 12, 30522)
  batch = {"encoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  wanted = 109_482_240 - 590_592 + 768**2 + 768 + 2 * 768 + 30522
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted


def test_parameter_count_of_its_pre_training_is_the_published_one() -> None:
  # transformers' BertForPreTraining of bert-base-uncased: the pooler and 2 · 768 + 2 more.
  model = bert_pairs(12, 768, 12, 30522)
  batch = {"encoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == 110_106_428


def test_a_pair_is_read_off_its_first_token() -> None:
  model = bert_pairs(1, 16, 4, 40, max_length=32, mlp=24)
  batch = batch_for(model)
  params = parameters(model.init, batch)
  output = model.apply(params, batch)
  assert output.logits.shape == (2, 8, 40)
  logits = next_sentence(model, params, output.hidden)
  assert logits.shape == (2, 2) and logits.dtype == np.float32
  only = output.hidden.at[:, 1:].set(0.0)
  np.testing.assert_array_equal(logits, next_sentence(model, params, only))
