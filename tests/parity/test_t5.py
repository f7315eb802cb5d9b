"""T5 and mT5 against `transformers`, which ties the head whatever the config says: see `model`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


# mT5's, where a case says nothing else.
SMALL = {
  "d_ff": 20, "d_kv": 4, "relative_attention_num_buckets": 8,
  "relative_attention_max_distance": 6,
}  # fmt: skip


def uncached(made: Any) -> Any:
  """Theirs, without a cache where it would have too few layers: it has as many as the encoder."""
  made.generation_config.use_cache = made.config.num_decoder_layers <= made.config.num_layers
  return made


def model(vocab: int = 37, **fields: Any) -> Any:
  """Untied by hand where the config says so."""
  config = transformers.T5Config(
    vocab_size=vocab, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    attn_implementation="eager", **{"d_ff": 20, **fields},
  )  # fmt: skip
  made = uncached(transformers.T5ForConditionalGeneration(config))
  if not fields["tie_word_embeddings"]:
    made.lm_head.weight = torch.nn.Parameter(torch.randn_like(made.lm_head.weight) * 0.1)
  return made


def mt5(vocab: int = 37, **fields: Any) -> Any:
  """Untied by hand, as the published weights are."""
  config = transformers.MT5Config(
    vocab_size=vocab, attn_implementation="eager", **{**SMALL, **fields},
  )  # fmt: skip
  made = uncached(transformers.MT5ForConditionalGeneration(config))
  made.lm_head.weight = torch.nn.Parameter(torch.randn_like(made.lm_head.weight) * 0.1)
  return made


CASES = {
  "t5_1_0": harness.Case(
    lambda: model(
      d_model=12, d_kv=4, num_heads=3, num_layers=2, num_decoder_layers=1, tie_word_embeddings=True,
      relative_attention_num_buckets=8, relative_attention_max_distance=6,
    ),
    harness.both(37),
    generates=True,
  ),
  "t5_1_1": harness.Case(
    lambda: model(
      d_model=10, d_kv=4, num_heads=5, num_layers=2, tie_word_embeddings=False,
      feed_forward_proj="gated-gelu",
    ),
    harness.both(37),
    generates=True,
  ),
  "t5_deep_decoder": harness.Case(
    lambda: model(
      d_model=9, d_kv=5, num_heads=3, num_layers=1, num_decoder_layers=3, d_ff=14,
      tie_word_embeddings=False, feed_forward_proj="gated-silu", relative_attention_num_buckets=8,
      relative_attention_max_distance=10,
    ),
    harness.both(37),
    generates=True,
  ),
  "mt5": harness.Case(
    lambda: mt5(d_model=10, num_heads=3, num_layers=2, num_decoder_layers=1),
    harness.both(37),
    generates=True,
  ),
  "mt5_relu": harness.Case(
    lambda: mt5(d_model=8, num_heads=5, num_layers=3, num_decoder_layers=2,
                feed_forward_proj="relu"),
    harness.both(37),
    generates=True,
  ),
}  # fmt: skip


def draw(
  rng: draws.Rng, made: Callable[..., Any], fields: Callable[[draws.Rng], dict[str, Any]]
) -> harness.Case:
  n, buckets = draws.sizes(rng), draws.pick(rng, (4, 8, 32))
  layers, width = int(rng.integers(1, 4)), int(rng.integers(5, 30))
  texts, targets = draws.padding(rng, n.length), draws.padding(rng, n.length, left=False)
  told = fields(rng)
  return harness.Case(
    lambda: made(
      n.vocab, d_model=width, d_kv=n.head_dim, d_ff=n.mlp, num_heads=n.heads, num_layers=n.layers,
      num_decoder_layers=layers, relative_attention_num_buckets=buckets,
      relative_attention_max_distance=int(buckets * 3), **told,
    ),
    harness.both(n.vocab, padding=texts, targets=targets),
    generates=True, spread=draws.SPREAD, beams=draws.beams(rng),
  )  # fmt: skip


def first(rng: draws.Rng) -> dict[str, Any]:
  """T5 1.0: one projection, a tied head."""
  return {"feed_forward_proj": draws.activation(rng), "tie_word_embeddings": True}


def gated(rng: draws.Rng) -> dict[str, Any]:
  """T5 1.1: a gate, a head of its own."""
  return {
    "feed_forward_proj": f"gated-{draws.activation(rng)}", "tie_word_embeddings": False
  }  # fmt: skip


def either(rng: draws.Rng) -> dict[str, Any]:
  """mT5: as 1.1; its head is never tied."""
  return {"feed_forward_proj": draws.pick(rng, ("", "gated-")) + draws.activation(rng)}


DRAWS = {
  "t5_1_0": functools.partial(draw, made=model, fields=first),
  "t5_1_1": functools.partial(draw, made=model, fields=gated),
  "mt5": functools.partial(draw, made=mt5, fields=either),
}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
