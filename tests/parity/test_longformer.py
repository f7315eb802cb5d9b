"""Longformer against `transformers`, with padding and tokens that see all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity

GLOBAL = ((0, 7), (0,), (0, 1, 3))  # of each row


def model(vocab: int = 37, places: int = 42, **fields: Any) -> Any:
  # Weights large enough that another GELU is told from this one.
  config = transformers.LongformerConfig(
    vocab_size=vocab, max_position_embeddings=places, initializer_range=0.4, **fields
  )
  return transformers.LongformerForMaskedLM(config)


def marked(make: Callable[[], harness.Inputs], rows: Sequence[Sequence[int]]) -> Any:
  """The inputs of `make` with global tokens, at these places of each row."""

  def told() -> harness.Inputs:
    batch, inputs, mask = make()
    flags = np.zeros_like(batch["encoder_input_tokens"])
    for row, places in zip(flags, rows, strict=True):
      row[list(places)] = 1
    batch["encoder_global_attention"] = inputs["global_attention_mask"] = flags
    return batch, inputs, mask

  return told


SIZES = {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 20}
TEXTS = harness.Padding((23, 18, 9), 23)

CASES = {
  "longformer": harness.Case(
    lambda: model(**SIZES, num_hidden_layers=2, attention_window=4, type_vocab_size=1),
    marked(harness.encoder(37, pad=1, padding=TEXTS), GLOBAL),
  ),
  "longformer_local": harness.Case(  # nobody is global
    lambda: model(**SIZES, num_hidden_layers=2, attention_window=6, type_vocab_size=1),
    harness.encoder(37, pad=1, padding=TEXTS),
  ),
  "longformer_windows": harness.Case(  # one row has none, another a global token in its padding
    lambda: model(
      **SIZES, num_hidden_layers=4, attention_window=[4, 8, 4, 8], hidden_act="relu",
      layer_norm_eps=1e-5,
    ),
    marked(harness.encoder(37, types=2, pad=1, padding=TEXTS), ((22, 0, 11), (), (2, 12))),
  ),
  "longformer_wide": harness.Case(  # a window longer than the row
    lambda: model(**SIZES, num_hidden_layers=1, attention_window=64, type_vocab_size=1, places=90),
    marked(harness.encoder(37, pad=1, padding=TEXTS), GLOBAL),
  ),
}  # fmt: skip


def flags(rng: draws.Rng, padding: harness.Padding) -> list[list[int]]:
  """Some places of each row, also in its padding."""
  return [
    [int(x) for x in np.flatnonzero(rng.random(padding.length) < share)]
    for share in rng.choice([0.0, 0.1, 0.4], len(padding.lengths))
  ]


def draw(rng: draws.Rng) -> harness.Case:
  n, act, types = draws.sizes(rng), draws.activation(rng), int(rng.integers(1, 4))
  # Theirs pads to the longest window, of which others must be divisors, and fails with one of 2.
  half = int(rng.integers(2, 5))
  windows = [2 * half * draws.pick(rng, (1, 2)) for _ in range(n.layers)]
  padding = draws.padding(rng, n.length)
  inputs = harness.encoder(n.vocab, types, 1, padding, counted=True)
  return harness.Case(
    lambda: model(
      n.vocab, n.places + 18, hidden_size=n.embed, num_attention_heads=n.heads,
      num_hidden_layers=n.layers, intermediate_size=n.mlp, hidden_act=act, type_vocab_size=types,
      attention_window=windows,
    ),
    marked(inputs, flags(rng, padding)), spread=draws.SPREAD,
  )  # fmt: skip


DRAWS = {"longformer": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
