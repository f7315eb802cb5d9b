"""LLaMA against `transformers`, grouped-query heads and tied heads included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, places: int = 24, mlp: int = 20, **fields: Any) -> Any:
  config = transformers.LlamaConfig(
    vocab_size=vocab, intermediate_size=mlp, max_position_embeddings=places, bos_token_id=0,
    eos_token_id=1, pad_token_id=0, attn_implementation="eager", **fields,
  )  # fmt: skip
  return transformers.LlamaForCausalLM(config)


CASES = {
  "llama": harness.Case(
    lambda: model(
      hidden_size=12, num_attention_heads=3, num_key_value_heads=3, num_hidden_layers=2
    ),
    harness.decoder(37),
    generates=True,
  ),
  "llama_grouped": harness.Case(
    lambda: model(
      hidden_size=24, num_attention_heads=6, num_key_value_heads=2, num_hidden_layers=3,
      tie_word_embeddings=True, rms_norm_eps=1e-5,
      rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
    ),
    harness.decoder(37),
    generates=True,
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  n, groups = draws.sizes(rng, even=True), int(rng.integers(1, 4))  # rotary turns pairs
  tied = bool(rng.integers(2))
  return harness.Case(
    lambda: model(
      n.vocab, n.places, n.mlp, hidden_size=n.embed * groups, num_attention_heads=n.heads * groups,
      num_key_value_heads=n.heads, num_hidden_layers=n.layers, tie_word_embeddings=tied,
    ),
    harness.decoder(n.vocab, draws.padding(rng, n.length)),
    generates=True, spread=draws.SPREAD, beams=draws.beams(rng),
  )  # fmt: skip


DRAWS = {"llama": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
