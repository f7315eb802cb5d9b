"""LongT5 against `transformers`, which ties the head whatever the config says: see `model`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, **fields: Any) -> Any:
  """Untied by hand where the config says so. Without a cache where it would have too few layers: it
  has as many as the encoder."""
  small = {
    "d_ff": 20, "d_kv": 4, "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 6,
  }  # fmt: skip
  config = transformers.LongT5Config(
    vocab_size=vocab, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    attn_implementation="eager", **{**small, **fields},
  )  # fmt: skip
  made = transformers.LongT5ForConditionalGeneration(config)
  made.generation_config.use_cache = config.num_decoder_layers <= config.num_layers
  if not fields["tie_word_embeddings"]:
    made.lm_head.weight = torch.nn.Parameter(torch.randn_like(made.lm_head.weight) * 0.1)
  return made


# Blocks of 3 and 4 divide neither 11 nor 8 nor 5, and the row of 2 has no whole block.
PADDED = harness.Padding((11, 8, 2), 11)
LEFT = harness.Padding((11, 8, 5), 11, left=True)

CASES = {
  "longt5_local": harness.Case(
    lambda: model(
      d_model=12, num_heads=3, num_layers=2, num_decoder_layers=1, tie_word_embeddings=True,
      local_radius=2,
    ),
    harness.both(37, padding=PADDED),
    generates=True,
  ),
  "longt5_global": harness.Case(
    lambda: model(
      d_model=10, num_heads=5, num_layers=2, tie_word_embeddings=False, local_radius=2,
      feed_forward_proj="gated-gelu", encoder_attention_type="transient-global",
      global_block_size=3,
    ),
    harness.both(37, padding=PADDED),
    generates=True,
  ),
  "longt5_left": harness.Case(
    lambda: model(
      d_model=9, d_kv=5, num_heads=3, num_layers=2, tie_word_embeddings=False, local_radius=1,
      feed_forward_proj="gated-silu", encoder_attention_type="transient-global",
      global_block_size=4,
    ),
    harness.both(37, padding=LEFT),
  ),
  "longt5_short": harness.Case(  # rows without any whole block
    lambda: model(
      d_model=8, num_heads=2, num_layers=1, tie_word_embeddings=True, local_radius=127,
      encoder_attention_type="transient-global", global_block_size=16,
    ),
    harness.both(37),
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  n, buckets = draws.sizes(rng), draws.pick(rng, (4, 8, 32))
  texts, targets = draws.padding(rng, n.length), draws.padding(rng, n.length, left=False)
  told = {
    "local_radius": int(rng.integers(1, 6)), "global_block_size": int(rng.integers(2, 6)),
    "encoder_attention_type": draws.pick(rng, ("local", "transient-global")),
    "feed_forward_proj": draws.pick(rng, ("", "gated-")) + draws.activation(rng),
    "tie_word_embeddings": bool(rng.integers(2)),
  }  # fmt: skip
  return harness.Case(
    lambda: model(
      n.vocab, d_model=n.embed, d_kv=n.head_dim, d_ff=n.mlp, num_heads=n.heads,
      num_layers=n.layers, relative_attention_num_buckets=buckets,
      relative_attention_max_distance=int(buckets * 3), **told,
    ),
    harness.both(n.vocab, padding=texts, targets=targets),
    generates=True, spread=draws.SPREAD, beams=draws.beams(rng),
  )  # fmt: skip


DRAWS = {"longt5": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
