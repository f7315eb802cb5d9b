"""OPT against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, places: int = 24, **fields: Any) -> Any:
  # Weights large enough that another GELU is told from this one.
  config = transformers.OPTConfig(
    vocab_size=vocab, max_position_embeddings=places, pad_token_id=1, bos_token_id=2,
    eos_token_id=2, attn_implementation="eager", init_std=0.4, **fields,
  )  # fmt: skip
  return transformers.OPTForCausalLM(config)


def narrowed(theirs: Any, x: np.ndarray) -> np.ndarray:
  """Theirs tells its last hidden states as narrow as the token table: ours are projected in the
  head."""
  out = theirs.model.decoder.project_out
  return x if out is None else x @ out.weight.detach().numpy().T


CASES = {
  "opt": harness.Case(
    lambda: model(hidden_size=12, num_attention_heads=3, num_hidden_layers=3, ffn_dim=20),
    harness.decoder(37),
    generates=True,
  ),
  "opt_post_norm": harness.Case(
    lambda: model(
      hidden_size=20, num_attention_heads=5, num_hidden_layers=2, ffn_dim=28,
      word_embed_proj_dim=8, do_layer_norm_before=False,
    ),
    harness.decoder(37),
    generates=True,
    last=narrowed,
  ),
  "opt_gelu": harness.Case(  # projections with norms before: Galactica's activation
    lambda: model(
      hidden_size=12, num_attention_heads=3, num_hidden_layers=2, ffn_dim=16,
      word_embed_proj_dim=16, activation_function="gelu",
    ),
    harness.decoder(37),
    generates=True,
    last=narrowed,
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  n, act = draws.sizes(rng), draws.activation(rng)
  narrow, before = draws.pick(rng, (n.embed, 3, n.embed + 2)), bool(rng.integers(2))
  return harness.Case(
    lambda: model(
      n.vocab, n.places, hidden_size=n.embed, num_attention_heads=n.heads, ffn_dim=n.mlp,
      num_hidden_layers=n.layers, word_embed_proj_dim=narrow, do_layer_norm_before=before,
      activation_function=act,
    ),
    harness.decoder(n.vocab, draws.padding(rng, n.length)),
    generates=True, last=narrowed, spread=draws.SPREAD, beams=draws.beams(rng),
  )  # fmt: skip


DRAWS = {"opt": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
