"""LLaMA against `transformers`, grouped-query heads and tied heads included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(**fields: Any) -> Any:
  config = transformers.LlamaConfig(
    vocab_size=37, intermediate_size=20, max_position_embeddings=24, bos_token_id=0, eos_token_id=1,
    pad_token_id=0, attn_implementation="eager", **fields,
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


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
