"""LED against `transformers`, with padding and tokens that see all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402
from tests.parity.test_longformer import flags, marked  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, places: int = 40, **fields: Any) -> Any:
  config = transformers.LEDConfig(
    vocab_size=vocab, max_encoder_position_embeddings=places, max_decoder_position_embeddings=24,
    attn_implementation="eager", **fields,
  )  # fmt: skip
  return transformers.LEDForConditionalGeneration(config)


TEXTS = harness.Padding((19, 14, 6), 19)

CASES = {
  "led": harness.Case(
    lambda: model(
      d_model=12, encoder_attention_heads=3, decoder_attention_heads=3, encoder_layers=2,
      decoder_layers=2, encoder_ffn_dim=20, decoder_ffn_dim=20, attention_window=4,
    ),
    marked(harness.both(37, begin=2, pad=1, padding=TEXTS), ((0, 7), (0,), (0, 1, 3))),
    generates=True,
  ),
  "led_uneven": harness.Case(  # nobody is global
    lambda: model(
      d_model=16, encoder_attention_heads=4, decoder_attention_heads=2, encoder_layers=2,
      decoder_layers=1, encoder_ffn_dim=12, decoder_ffn_dim=16, activation_function="relu",
      attention_window=[6, 12],
    ),
    harness.both(37, begin=2, pad=1, padding=TEXTS),
    generates=True,
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  n, layers, heads = draws.sizes(rng), int(rng.integers(1, 3)), draws.pick(rng, (1, 3, 5))
  act, mlp, half = draws.activation(rng), int(rng.integers(5, 40)), int(rng.integers(2, 5))
  windows = [2 * half * draws.pick(rng, (1, 2)) for _ in range(n.layers)]
  texts, targets = draws.padding(rng, n.length), draws.padding(rng, n.length - 1, left=False)
  return harness.Case(
    lambda: model(
      n.vocab, n.places + 18, d_model=n.embed * heads, encoder_attention_heads=n.heads,
      decoder_attention_heads=heads, encoder_layers=n.layers, decoder_layers=layers,
      encoder_ffn_dim=n.mlp, decoder_ffn_dim=mlp, activation_function=act,
      attention_window=windows,
    ),
    marked(
      harness.both(n.vocab, begin=2, pad=1, padding=texts, targets=targets), flags(rng, texts)
    ),
    # Wider matrices make two towers of norms after the sum so steep that float32 is off by 1.4e-4.
    generates=True, beams=draws.beams(rng),
  )  # fmt: skip


DRAWS = {"led": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
