"""The side of HuggingFace `transformers` on torch: `python -m benchmarks._torch` as in `_mtm`.

Needs `pip install torch transformers`. Eager attention and the fused AdamW, torch's fastest on CPU.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks._sizes import (
  CAPACITY,
  EXPERTS,
  LEARNING_RATE,
  SIZES,
  TWO_TOWERS,
  WEIGHT_DECAY,
  Size,
)

WARM_UP = 3


def build(family: str, size: Size) -> Any:
  """A model of `family` with fresh parameters."""
  if family == "switch":
    config = transformers.SwitchTransformersConfig(
      vocab_size=size.vocab, d_model=size.embed, d_kv=size.embed // size.heads, d_ff=size.mlp,
      num_layers=size.layers, num_decoder_layers=size.layers, num_heads=size.heads,
      num_sparse_encoder_layers=size.layers // 2, num_sparse_decoder_layers=size.layers // 2,
      num_experts=EXPERTS, expert_capacity=round(CAPACITY * size.length / EXPERTS),
      router_aux_loss_coef=0.01, output_router_logits=True, dropout_rate=size.dropout,
      tie_word_embeddings=False, decoder_start_token_id=0, pad_token_id=0, eos_token_id=None,
      attn_implementation="eager",
    )  # fmt: skip
    return transformers.SwitchTransformersForConditionalGeneration(config)
  if family == "t5":
    config = transformers.T5Config(
      vocab_size=size.vocab, d_model=size.embed, d_kv=size.embed // size.heads, d_ff=size.mlp,
      num_layers=size.layers, num_heads=size.heads, dropout_rate=size.dropout,
      feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0,
      pad_token_id=0, eos_token_id=None, attn_implementation="eager",
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config)
  config = transformers.GPT2Config(
    vocab_size=size.vocab, n_positions=1024, n_embd=size.embed, n_layer=size.layers,
    n_head=size.heads, n_inner=size.mlp, resid_pdrop=size.dropout, embd_pdrop=size.dropout,
    attn_pdrop=size.dropout, bos_token_id=0, eos_token_id=None, pad_token_id=0,
    attn_implementation="eager",
  )  # fmt: skip
  return transformers.GPT2LMHeadModel(config)


def tokens(size: Size, length: int) -> torch.Tensor:
  """Random ids `[batch, length]` int64 without padding."""
  ids = np.random.default_rng(0).integers(2, size.vocab, (size.batch, length), np.int64)
  return torch.from_numpy(ids)


def train(family: str, size: Size, steps: int) -> list[float]:
  """Seconds of each of `steps` training steps."""
  model = build(family, size).train()
  optimizer = torch.optim.AdamW(
    model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
  )
  ids = tokens(size, size.length)
  seconds = []
  for _ in range(WARM_UP + steps):
    start = time.perf_counter()
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    seconds.append(time.perf_counter() - start)
  return seconds[WARM_UP:]


def decode(family: str, size: Size, steps: int) -> list[float]:
  """Seconds of each of `steps` greedy decodings of `size.generated` tokens."""
  model = build(family, size).eval()
  ids = tokens(size, size.prompt)
  seconds = []
  for _ in range(WARM_UP + steps):
    start = time.perf_counter()
    with torch.inference_mode():
      out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=size.generated, do_sample=False,
        num_beams=1, use_cache=True,
      )  # fmt: skip
    seconds.append(time.perf_counter() - start)
    generated = out.shape[1] - (1 if family in TWO_TOWERS else size.prompt)
    if generated != size.generated:
      raise RuntimeError(f"{generated} tokens were generated instead of {size.generated}")
  return seconds[WARM_UP:]


def main(work: str, family: str, size: str, steps: str) -> None:
  """Prints `{"seconds": [...], "versions": {...}}`."""
  torch.manual_seed(0)
  # A fresh T5's logits are so wide that gradients are denormal, which slows torch ten times. XLA
  # flushes them; torch does when told to, before it starts its threads.
  torch.set_flush_denormal(True)
  seconds = {"train": train, "decode": decode}[work](family, SIZES[size], int(steps))
  versions = {"torch": torch.__version__, "transformers": transformers.__version__}
  print(json.dumps({"seconds": seconds, "versions": versions}))


if __name__ == "__main__":
  main(*sys.argv[1:])
