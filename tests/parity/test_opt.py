"""OPT against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(**fields: Any) -> Any:
  # Weights large enough that another GELU is told from this one.
  config = transformers.OPTConfig(
    vocab_size=37, max_position_embeddings=24, pad_token_id=1, bos_token_id=2, eos_token_id=2,
    attn_implementation="eager", init_std=0.4, **fields,
  )  # fmt: skip
  return transformers.OPTForCausalLM(config)


CASES = {
  "opt": harness.Case(
    lambda: model(hidden_size=12, num_attention_heads=3, num_hidden_layers=3, ffn_dim=20),
    harness.decoder(37),
    generates=True,
  ),
  "opt_post_norm": harness.Case(
    lambda: model(
      hidden_size=20, num_attention_heads=5, num_hidden_layers=2, ffn_dim=28,
      word_embed_proj_dim=8, do_layer_norm_before=False,
    ),
    harness.decoder(37),
    generates=True,
  ),
  "opt_gelu": harness.Case(  # projections with norms before: Galactica's activation
    lambda: model(
      hidden_size=12, num_attention_heads=3, num_hidden_layers=2, ffn_dim=16,
      word_embed_proj_dim=16, activation_function="gelu",
    ),
    harness.decoder(37),
    generates=True,
  ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
