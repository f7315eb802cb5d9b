"""GPT-Neo against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, places: int = 24, **fields: Any) -> Any:
  # Weights large enough that another GELU is told from this one.
  config = transformers.GPTNeoConfig(
    vocab_size=vocab, max_position_embeddings=places, bos_token_id=0, eos_token_id=1,
    attn_implementation="eager", initializer_range=0.4, **fields,
  )  # fmt: skip
  return transformers.GPTNeoForCausalLM(config)


CASES = {
  "gpt_neo": harness.Case(
    lambda: model(
      hidden_size=12, num_heads=3, num_layers=4, window_size=3,
      attention_types=[[["global", "local"], 2]],
    ),
    harness.decoder(37),
    generates=True,
  ),
  "gpt_neo_period": harness.Case(  # a period of three, told in many groups
    lambda: model(
      hidden_size=10, num_heads=5, num_layers=6, intermediate_size=14, window_size=4,
      activation_function="relu", attention_types=[
        [["local"], 1], [["global"], 1], [["local"], 2], [["global"], 1], [["local"], 1],
      ],
    ),
    harness.decoder(37),
    generates=True,
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  n, act, window = draws.sizes(rng), draws.activation(rng), int(rng.integers(1, 6))
  kinds = draws.pick(rng, ([[["global", "local"], 1]], [[["local"], 2]], [[["global"], 1]]))
  layers = sum(len(names) * times for names, times in kinds)
  return harness.Case(
    lambda: model(
      n.vocab, n.places, hidden_size=n.embed, num_heads=n.heads, num_layers=layers,
      intermediate_size=n.mlp, window_size=window, attention_types=kinds, activation_function=act,
    ),
    harness.decoder(n.vocab, draws.padding(rng, n.length)),
    generates=True, spread=draws.SPREAD, beams=draws.beams(rng),
  )  # fmt: skip


DRAWS = {"gpt_neo": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
