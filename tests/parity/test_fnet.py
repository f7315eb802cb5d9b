"""FNet against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, places: int = 24, pooled: bool = False, **fields: Any) -> Any:
  """Theirs; without the pooler, which masked language modelling never reads, unless `pooled`."""
  config = transformers.FNetConfig(vocab_size=vocab, max_position_embeddings=places, **fields)
  made = transformers.FNetForMaskedLM(config)
  # torch would keep the gradient of padding's vector from us, which this model does read.
  made.fnet.embeddings.word_embeddings.padding_idx = None
  if not pooled:
    made.fnet.pooler = None
  return made


CASES = {
  "fnet": harness.Case(
    lambda: model(hidden_size=12, num_hidden_layers=2, intermediate_size=20),
    harness.encoder(37, types=4, pad=3),
  ),
  "fnet_relu": harness.Case(
    lambda: model(
      hidden_size=15, num_hidden_layers=1, intermediate_size=24, hidden_act="relu",
      type_vocab_size=2,
    ),
    harness.encoder(37, pad=3),
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  n, act, types = draws.sizes(rng), draws.activation(rng), int(rng.integers(1, 5))
  return harness.Case(
    lambda: model(
      n.vocab, n.places, hidden_size=n.embed, num_hidden_layers=n.layers, intermediate_size=n.mlp,
      hidden_act=act, type_vocab_size=types,
    ),
    harness.encoder(n.vocab, types, 3, draws.padding(rng, n.length)),
    spread=draws.SPREAD,
  )  # fmt: skip


DRAWS = {"fnet": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)


def test_a_pooler_is_passed_over(tmp_path: Path) -> None:
  make = lambda: model(pooled=True, hidden_size=12, num_hidden_layers=1, intermediate_size=20)  # noqa: E731
  harness.check(harness.Case(make, harness.encoder(37, pad=3)), tmp_path)
