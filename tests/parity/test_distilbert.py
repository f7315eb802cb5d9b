"""DistilBERT against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(**fields: Any) -> Any:
  config = transformers.DistilBertConfig(
    vocab_size=37, max_position_embeddings=24, attn_implementation="eager", **fields
  )
  return transformers.DistilBertForMaskedLM(config)


CASES = {
  "distilbert": harness.Case(
    lambda: model(dim=12, n_heads=3, n_layers=2, hidden_dim=20), harness.encoder(37)
  ),
  "distilbert_sinusoids": harness.Case(
    lambda: model(
      dim=20, n_heads=5, n_layers=1, hidden_dim=24, activation="relu", sinusoidal_pos_embds=True
    ),
    harness.encoder(37),
  ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
