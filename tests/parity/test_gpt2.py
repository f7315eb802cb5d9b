"""GPT-2 against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, places: int = 24, **fields: Any) -> Any:
  config = transformers.GPT2Config(
    vocab_size=vocab, n_positions=places, bos_token_id=0, eos_token_id=1,
    attn_implementation="eager", **fields,
  )  # fmt: skip
  return transformers.GPT2LMHeadModel(config)


CASES = {
  "gpt2": harness.Case(
    lambda: model(n_embd=12, n_head=3, n_layer=2, n_inner=20), harness.decoder(37), generates=True
  ),
  "gpt2_relu": harness.Case(
    lambda: model(n_embd=20, n_head=5, n_layer=3, activation_function="relu"),
    harness.decoder(37),
    generates=True,
  ),
}


def draw(rng: draws.Rng) -> harness.Case:
  n, act = draws.sizes(rng), draws.activation(rng)
  return harness.Case(
    lambda: model(
      n.vocab, n.places, n_embd=n.embed, n_head=n.heads, n_layer=n.layers, n_inner=n.mlp,
      activation_function=act,
    ),
    harness.decoder(n.vocab, draws.padding(rng, n.length)),
    generates=True, spread=draws.SPREAD, beams=draws.beams(rng),
  )  # fmt: skip


DRAWS = {"gpt2": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
