"""MPNet against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, places: int = 26, **fields: Any) -> Any:
  config = transformers.MPNetConfig(
    vocab_size=vocab, max_position_embeddings=places, attn_implementation="eager", **fields
  )
  return transformers.MPNetForMaskedLM(config)


CASES = {
  "mpnet": harness.Case(  # 11 tokens: both the exact and the logarithmic buckets are met
    lambda: model(
      hidden_size=12, num_attention_heads=3, num_hidden_layers=2, intermediate_size=20,
      layer_norm_eps=1e-5,
    ),
    harness.encoder(37, pad=1),
  ),
  "mpnet_relu": harness.Case(
    lambda: model(
      hidden_size=20, num_attention_heads=5, num_hidden_layers=1, intermediate_size=24,
      hidden_act="relu",
    ),
    harness.encoder(37, pad=1),
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  n, act = draws.sizes(rng), draws.activation(rng)
  return harness.Case(
    lambda: model(
      n.vocab, n.places + 2, hidden_size=n.embed, num_attention_heads=n.heads,
      num_hidden_layers=n.layers, intermediate_size=n.mlp, hidden_act=act,
    ),
    harness.encoder(n.vocab, 0, 1, draws.padding(rng, n.length), counted=True),
    spread=draws.SPREAD,
  )  # fmt: skip


DRAWS = {"mpnet": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
