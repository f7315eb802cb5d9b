"""ALBERT against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, places: int = 24, **fields: Any) -> Any:
  config = transformers.AlbertConfig(
    vocab_size=vocab, max_position_embeddings=places, attn_implementation="eager", **fields
  )
  return transformers.AlbertForMaskedLM(config)


CASES = {
  "albert": harness.Case(
    lambda: model(
      embedding_size=8, hidden_size=12, num_attention_heads=3, num_hidden_layers=3,
      intermediate_size=20, initializer_range=0.3,  # so wide that the two forms of GELU differ
    ),
    harness.encoder(37, types=2),
  ),
  "albert_wide": harness.Case(  # projected all the same
    lambda: model(
      embedding_size=20, hidden_size=20, num_attention_heads=5, num_hidden_layers=2,
      intermediate_size=24, hidden_act="gelu", type_vocab_size=1,
    ),
    harness.encoder(37),
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  n, act, types = draws.sizes(rng), draws.activation(rng), int(rng.integers(1, 5))
  width = draws.pick(rng, (n.embed, 3, n.embed + 5))
  return harness.Case(
    lambda: model(
      n.vocab, n.places, hidden_size=n.embed, num_attention_heads=n.heads,
      num_hidden_layers=n.layers, intermediate_size=n.mlp, hidden_act=act,
      type_vocab_size=types, embedding_size=width,
    ),
    harness.encoder(n.vocab, types, padding=draws.padding(rng, n.length)),
    spread=draws.SPREAD,
  )  # fmt: skip


DRAWS = {"albert": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
