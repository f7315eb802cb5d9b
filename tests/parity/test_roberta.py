"""RoBERTa against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, places: int = 26, **fields: Any) -> Any:
  config = transformers.RobertaConfig(
    vocab_size=vocab, max_position_embeddings=places, attn_implementation="eager", **fields
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


def draw(rng: draws.Rng) -> harness.Case:
  n, act, types = draws.sizes(rng), draws.activation(rng), int(rng.integers(1, 5))
  return harness.Case(
    lambda: model(
      n.vocab, n.places + 2, hidden_size=n.embed, num_attention_heads=n.heads,
      num_hidden_layers=n.layers, intermediate_size=n.mlp, hidden_act=act,
      type_vocab_size=types,
    ),
    harness.encoder(n.vocab, types, 1, draws.padding(rng, n.length), counted=True),
    spread=draws.SPREAD,
  )  # fmt: skip


DRAWS = {"roberta": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
