"""RoBERTa against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(**fields: Any) -> Any:
  config = transformers.RobertaConfig(
    vocab_size=37, max_position_embeddings=26, attn_implementation="eager", **fields
  )
  return transformers.RobertaForMaskedLM(config)


CASES = {
  "roberta": harness.Case(
    lambda: model(
      hidden_size=12, num_attention_heads=3, num_hidden_layers=2, intermediate_size=20,
      type_vocab_size=1, layer_norm_eps=1e-5,
    ),
    harness.encoder(37, pad=1),
  ),
  "roberta_silu": harness.Case(
    lambda: model(
      hidden_size=20, num_attention_heads=5, num_hidden_layers=1, intermediate_size=24,
      type_vocab_size=3, hidden_act="silu",
    ),
    harness.encoder(37, types=3, pad=1),
  ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
