"""PEGASUS against `transformers`, which does not train the padding id's vector by look-ups.

Decoders begin with it, so targets begin with another id here: gradients can be compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity

# What generation would otherwise force at the end.
FREE = {"forced_eos_token_id": None, "min_length": 0}


def model(vocab: int = 37, places: int = 24, **fields: Any) -> Any:
  config = transformers.PegasusConfig(
    vocab_size=vocab, max_position_embeddings=places, decoder_start_token_id=2,
    attn_implementation="eager", **fields,
  )  # fmt: skip
  made = transformers.PegasusForConditionalGeneration(config)
  made.generation_config.update(**FREE)
  for side in (made.model.encoder, made.model.decoder):
    # The table of sinusoids is no parameter of ours: as a buffer it is not perturbed, nor saved.
    table = side.embed_positions.weight.detach()
    del side.embed_positions.weight
    side.embed_positions.register_buffer("weight", table, persistent=False)
  return made


CASES = {
  "pegasus": harness.Case(
    lambda: model(
      d_model=12, encoder_attention_heads=3, decoder_attention_heads=3, encoder_layers=2,
      decoder_layers=1, encoder_ffn_dim=20, decoder_ffn_dim=20,
      scale_embedding=True, activation_function="relu",
    ),
    harness.both(37, begin=2, pad=0),
    generates=True,
  ),
  "pegasus_gelu": harness.Case(
    lambda: model(
      d_model=10, encoder_attention_heads=5, decoder_attention_heads=2, encoder_layers=1,
      decoder_layers=2, encoder_ffn_dim=12, decoder_ffn_dim=16,
    ),
    harness.both(37, begin=2, pad=0),
    generates=True,
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  n, layers, heads = draws.sizes(rng), int(rng.integers(1, 3)), draws.pick(rng, (1, 3, 5))
  act, scaled, mlp = draws.activation(rng), bool(rng.integers(2)), int(rng.integers(5, 40))
  texts, targets = draws.padding(rng, n.length), draws.padding(rng, n.length - 1, left=False)
  return harness.Case(
    lambda: model(
      n.vocab, n.places, d_model=n.embed * heads, encoder_attention_heads=n.heads,
      decoder_attention_heads=heads, encoder_layers=n.layers, decoder_layers=layers,
      encoder_ffn_dim=n.mlp, decoder_ffn_dim=mlp, scale_embedding=scaled, activation_function=act,
    ),
    harness.both(n.vocab, begin=2, pad=0, padding=texts, targets=targets),
    generates=True, spread=draws.SPREAD, beams=draws.beams(rng),
  )  # fmt: skip


DRAWS = {"pegasus": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
