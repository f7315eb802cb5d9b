"""BLOOM against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, **fields: Any) -> Any:
  # Weights large enough that another GELU is told from this one.
  config = transformers.BloomConfig(
    vocab_size=vocab,
    bos_token_id=1,
    eos_token_id=2,
    attn_implementation="eager",
    initializer_range=0.4,
    **fields,
  )
  return transformers.BloomForCausalLM(config)


CASES = {
  "bloom": harness.Case(
    lambda: model(hidden_size=12, n_head=3, n_layer=2), harness.decoder(37), generates=True
  ),
  "bloom_five_heads": harness.Case(
    lambda: model(hidden_size=10, n_head=5, n_layer=3, layer_norm_epsilon=1e-3),
    harness.decoder(37),
    generates=True,
  ),
}


def draw(rng: draws.Rng) -> harness.Case:
  n = draws.sizes(rng)
  return harness.Case(
    lambda: model(n.vocab, hidden_size=n.embed, n_head=n.heads, n_layer=n.layers),
    harness.decoder(n.vocab, draws.padding(rng, n.length), positions=False),
    generates=True, spread=draws.SPREAD, beams=draws.beams(rng),
  )  # fmt: skip


DRAWS = {"bloom": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
