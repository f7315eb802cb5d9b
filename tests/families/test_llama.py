"""LLaMA against transformers (tests/fixtures/hf/README.md)."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mtm.families.llama import llama
from mtm.objectives.causal_lm import CausalLM
from tests.families import hf_names
from tests.families.hf_names import HEADS, Row, from_heads, into_heads, linear, same

LAYER = "decoder/stack/period_0"
L = "model.layers.{}"


def rows(kv_heads: int, tied: bool) -> list[Row]:
  """The table; a tied model has no head of its own."""
  head = [] if tied else [("head/logits_dense/kernel", "lm_head.weight", linear)]
  return [
    *head,
    ("tokens/embedding", "model.embed_tokens.weight", same),
    (f"{LAYER}/mixer_norm/scale", f"{L}.input_layernorm.weight", same),
    (f"{LAYER}/mixer/query/kernel", f"{L}.self_attn.q_proj.weight", into_heads(HEADS)),
    (f"{LAYER}/mixer/key/kernel", f"{L}.self_attn.k_proj.weight", into_heads(kv_heads)),
    (f"{LAYER}/mixer/value/kernel", f"{L}.self_attn.v_proj.weight", into_heads(kv_heads)),
    (f"{LAYER}/mixer/out/kernel", f"{L}.self_attn.o_proj.weight", from_heads),
    (f"{LAYER}/channel_norm/scale", f"{L}.post_attention_layernorm.weight", same),
    (f"{LAYER}/channel/wi_0/kernel", f"{L}.mlp.gate_proj.weight", linear),
    (f"{LAYER}/channel/wi_1/kernel", f"{L}.mlp.up_proj.weight", linear),
    (f"{LAYER}/channel/wo/kernel", f"{L}.mlp.down_proj.weight", linear),
    ("decoder/final_norm/scale", "model.norm.weight", same),
  ]


@pytest.mark.parametrize(
  ("name", "kv_heads", "tied"),
  [("llama", 4, False), ("llama_grouped", 2, False), ("llama_tied", 1, True)],
)
def test_logits_loss_and_gradients_are_those_of_transformers(
  name: str, kv_heads: int, tied: bool
) -> None:
  arrays = hf_names.load(name)
  model = llama(2, 16, HEADS, 24, 40, kv_heads=kv_heads, tied=tied)
  batch = hf_names.decoder_batch(arrays)
  hf_names.check(model, CausalLM(), arrays, rows(kv_heads, tied), batch)


@pytest.mark.parametrize(
  ("model", "wanted"),
  [
    (llama(32, 4096, 32, 11008, 32000), 6_738_415_616),  # 7B
    (llama(80, 8192, 64, 28672, 32000, kv_heads=8), 68_976_648_192),  # LLaMA 2 70B
  ],
)
def test_parameter_count_is_the_published_one(model: object, wanted: int) -> None:
  batch = {"decoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted
