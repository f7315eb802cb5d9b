"""UMT5 against `transformers`, which ties the head whatever the config says: see `model`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


# Where a case says nothing else.
SMALL = {
  "d_ff": 20, "d_kv": 4, "relative_attention_num_buckets": 8,
  "relative_attention_max_distance": 6,
}  # fmt: skip


def model(vocab: int = 37, **fields: Any) -> Any:
  """Untied by hand where the config says so."""
  config = transformers.UMT5Config(
    vocab_size=vocab, attn_implementation="eager", **{**SMALL, **fields},
  )  # fmt: skip
  made = transformers.UMT5ForConditionalGeneration(config)
  # Theirs makes a cache of as many layers as the encoder has.
  made.generation_config.use_cache = config.num_decoder_layers <= config.num_layers
  if not fields["tie_word_embeddings"]:
    made.lm_head.weight = torch.nn.Parameter(torch.randn_like(made.lm_head.weight) * 0.1)
  return made


CASES = {
  "umt5": harness.Case(
    lambda: model(
      d_model=10, num_heads=3, num_layers=2, num_decoder_layers=1, tie_word_embeddings=False
    ),
    harness.both(37),
    generates=True,
  ),
  "umt5_tied": harness.Case(
    lambda: model(
      d_model=8, num_heads=5, num_layers=3, num_decoder_layers=2, tie_word_embeddings=True,
      feed_forward_proj="relu",
    ),
    harness.both(37),
    generates=True,
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  n, buckets = draws.sizes(rng), draws.pick(rng, (4, 8, 32))
  layers, width = int(rng.integers(1, 4)), int(rng.integers(5, 30))
  texts, targets = draws.padding(rng, n.length), draws.padding(rng, n.length, left=False)
  act, tied = draws.pick(rng, ("", "gated-")) + draws.activation(rng), bool(rng.integers(2))
  return harness.Case(
    lambda: model(
      n.vocab, d_model=width, d_kv=n.head_dim, d_ff=n.mlp, num_heads=n.heads, num_layers=n.layers,
      num_decoder_layers=layers, relative_attention_num_buckets=buckets,
      relative_attention_max_distance=int(buckets * 3), feed_forward_proj=act,
      tie_word_embeddings=tied,
    ),
    harness.both(n.vocab, padding=texts, targets=targets),
    generates=True, spread=draws.SPREAD, beams=draws.beams(rng),
  )  # fmt: skip


DRAWS = {"umt5": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
