"""GPT-2 against transformers (tests/fixtures/hf/README.md)."""

from __future__ import annotations

import jax
import numpy as np

from mtm.families.gpt2 import gpt2
from mtm.objectives.causal_lm import CausalLM
from tests.families import hf_names
from tests.families.hf_names import HEADS, Row, both, same


def from_heads(x: np.ndarray) -> np.ndarray:
  """Their Conv1D keeps `[inputs, outputs]`: `[heads · head_dim, embed]` → split; not a bias."""
  return x.reshape(HEADS, -1, x.shape[-1])


LAYER = "decoder/stack/period_0"
H = "transformer.h.{}"
ROWS: list[Row] = [
  ("tokens/embedding", "transformer.wte.weight", same),
  ("decoder/position/table/embedding", "transformer.wpe.weight", same),
  *both(f"{LAYER}/mixer_norm", f"{H}.ln_1", "scale", same),
  *both(f"{LAYER}/mixer/query", f"{H}.attn.q", "kernel", same),
  *both(f"{LAYER}/mixer/key", f"{H}.attn.k", "kernel", same),
  *both(f"{LAYER}/mixer/value", f"{H}.attn.v", "kernel", same),
  *both(f"{LAYER}/mixer/out", f"{H}.attn.c_proj", "kernel", from_heads),
  *both(f"{LAYER}/channel_norm", f"{H}.ln_2", "scale", same),
  *both(f"{LAYER}/channel/wi", f"{H}.mlp.c_fc", "kernel", same),
  *both(f"{LAYER}/channel/wo", f"{H}.mlp.c_proj", "kernel", same),
  *both("decoder/final_norm", "transformer.ln_f", "scale", same),
]  # fmt: skip


def unjoined(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The fixture with `c_attn` `[..., 3 · embed]` as q, k, v `[..., heads, head_dim]`."""
  out = {}
  for name, value in arrays.items():
    if ".c_attn." not in name:
      out[name] = value
      continue
    for letter, part in zip("qkv", np.split(value, 3, axis=-1), strict=True):
      split = part.reshape(*part.shape[:-1], HEADS, -1)
      out[name.replace("c_attn", letter)] = split
  return out


def test_logits_loss_and_gradients_are_those_of_transformers() -> None:
  arrays = unjoined(hf_names.load("gpt2"))
  model = gpt2(2, 16, HEADS, 40, max_length=24, mlp=24, dropout=0.0)
  hf_names.check(model, CausalLM(), arrays, ROWS, hf_names.decoder_batch(arrays))


def test_parameter_count_is_the_published_one() -> None:
  model = gpt2(12, 768, 12, 50257)  # the smallest GPT-2: 124,439,808
  batch = {"decoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == 124_439_808
