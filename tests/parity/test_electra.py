"""ELECTRA's generator and discriminator against `transformers`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


class ElectraForPreTraining(transformers.ElectraForPreTraining):  # the name goes into its config
  """Theirs, with the one logit of a token on an axis of its own, as ours."""

  def forward(self, **inputs: Any) -> Any:
    out = super().forward(**inputs)
    out.logits = out.logits[..., None]
    return out


def config(vocab: int = 37, places: int = 24, **fields: Any) -> Any:
  return transformers.ElectraConfig(
    vocab_size=vocab, max_position_embeddings=places, attn_implementation="eager", **fields
  )


def narrow() -> Any:
  return config(
    embedding_size=8, hidden_size=12, num_attention_heads=3, num_hidden_layers=2,
    intermediate_size=20, hidden_act="relu",
  )  # fmt: skip


def wide() -> Any:
  return config(
    embedding_size=20, hidden_size=20, num_attention_heads=5, num_hidden_layers=1,
    intermediate_size=24, type_vocab_size=3, initializer_range=0.3,
  )  # fmt: skip


CASES = {
  "electra_generator": harness.Case(
    lambda: transformers.ElectraForMaskedLM(narrow()), harness.encoder(37, types=2)
  ),
  "electra_generator_wide": harness.Case(
    lambda: transformers.ElectraForMaskedLM(wide()), harness.encoder(37)
  ),
  "electra_discriminator": harness.Case(
    lambda: ElectraForPreTraining(narrow()), harness.encoder(37)
  ),
  "electra_discriminator_wide": harness.Case(
    lambda: ElectraForPreTraining(wide()), harness.encoder(37, types=3)
  ),
}


def draw(rng: draws.Rng, made: Any) -> harness.Case:
  n, act, types = draws.sizes(rng), draws.activation(rng), int(rng.integers(1, 5))
  width = draws.pick(rng, (n.embed, 3, n.embed + 5))
  return harness.Case(
    lambda: made(
      config(
        n.vocab, n.places, embedding_size=width, hidden_size=n.embed, num_attention_heads=n.heads,
        num_hidden_layers=n.layers, intermediate_size=n.mlp, hidden_act=act, type_vocab_size=types,
      )
    ),
    harness.encoder(n.vocab, types, padding=draws.padding(rng, n.length)),
    spread=draws.SPREAD,
  )  # fmt: skip


DRAWS = {
  "electra_generator": functools.partial(draw, made=transformers.ElectraForMaskedLM),
  "electra_discriminator": functools.partial(draw, made=ElectraForPreTraining),
}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
