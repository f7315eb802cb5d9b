"""DistilBERT against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, places: int = 24, **fields: Any) -> Any:
  config = transformers.DistilBertConfig(
    vocab_size=vocab, max_position_embeddings=places, attn_implementation="eager", **fields
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


def draw(rng: draws.Rng) -> harness.Case:
  n, act = draws.sizes(rng), draws.pick(rng, ("gelu", "relu", "silu"))
  return harness.Case(
    lambda: model(
      n.vocab, n.places, dim=n.embed, n_heads=n.heads, n_layers=n.layers, hidden_dim=n.mlp,
      activation=act,
    ),
    harness.encoder(n.vocab, padding=draws.padding(rng, n.length)),
    spread=draws.SPREAD,
  )  # fmt: skip


DRAWS = {"distilbert": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
