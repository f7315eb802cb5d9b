"""Switch Transformers against `transformers`: experts in every, every second or some layers, rows
that lose tokens for want of places, router losses.

Theirs gives padding a place in an expert, and ours does not: where padding stands before a row's
tokens, nobody may be dropped here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from mtm.interop import hf  # noqa: E402
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, **fields: Any) -> Any:
  """With one table of tokens also where the head is not tied to it."""
  small = {
    "d_model": 12, "d_ff": 20, "d_kv": 4, "num_heads": 3, "num_experts": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 6,
  }  # fmt: skip
  config = transformers.SwitchTransformersConfig(
    vocab_size=vocab, decoder_start_token_id=0, attn_implementation="eager", **{**small, **fields}
  )
  made = transformers.SwitchTransformersForConditionalGeneration(config)
  made.set_input_embeddings(made.shared)
  made.generation_config.use_cache = config.num_decoder_layers <= config.num_layers
  return made


CASES = {
  "switch": harness.Case(
    lambda: model(
      num_layers=4, num_sparse_encoder_layers=2, num_decoder_layers=2, num_sparse_decoder_layers=1,
    ),
    harness.both(37),
    generates=True,
  ),
  "switch_dropping": harness.Case(  # two places for the eleven tokens of a row
    lambda: model(
      num_layers=3, num_sparse_encoder_layers=3, num_decoder_layers=3, num_sparse_decoder_layers=1,
      expert_capacity=2, tie_word_embeddings=False, router_bias=True, d_model=10, num_heads=5,
    ),
    harness.both(37),
    generates=True,
  ),
  "switch_uneven": harness.Case(  # experts in layers 1 and 3 of five; padding stands on the left
    lambda: model(
      num_layers=5, num_sparse_encoder_layers=2, num_decoder_layers=1, num_sparse_decoder_layers=0,
      dense_act_fn="gelu_new", num_experts=3,
    ),
    harness.both(37, padding=harness.Padding(left=True)),
    generates=True,
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  n, depth = draws.sizes(rng), int(rng.integers(1, 4))
  layers = int(rng.integers(1, 5))
  texts, targets = draws.padding(rng, n.length), draws.padding(rng, n.length, left=False)
  told = {
    "num_sparse_encoder_layers": int(rng.integers(0, layers + 1)),
    "num_sparse_decoder_layers": int(rng.integers(0, depth + 1)),
    "num_experts": int(rng.integers(2, 6)), "router_bias": bool(rng.integers(2)),
    "expert_capacity": 64 if texts.left else int(rng.integers(1, 12)),
    "tie_word_embeddings": bool(rng.integers(2)), "dense_act_fn": draws.activation(rng),
  }  # fmt: skip
  return harness.Case(
    lambda: model(
      n.vocab, d_model=n.embed, d_kv=n.head_dim, d_ff=n.mlp, num_heads=n.heads, num_layers=layers,
      num_decoder_layers=depth, **told,
    ),
    harness.both(n.vocab, padding=texts, targets=targets),
    generates=True, spread=draws.SPREAD, beams=draws.beams(rng),
  )  # fmt: skip


DRAWS = {"switch": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)


def test_router_losses(tmp_path: Path) -> None:
  """Of one layer with experts a side: theirs joins its layers before it multiplies shares with
  probabilities, and ours takes each by itself."""
  torch.manual_seed(0)
  theirs = model(
    num_layers=2, num_sparse_encoder_layers=1, num_decoder_layers=2, num_sparse_decoder_layers=1,
    router_aux_loss_coef=0.03, router_z_loss_coef=0.002,
  )  # fmt: skip
  harness.saved(theirs, tmp_path)
  full = harness.Padding((9, 9, 9), 9)
  batch, inputs, _ = harness.both(37, padding=full, targets=full)()
  told = harness.called(theirs, inputs, output_router_logits=True)
  ours, params = harness.opened(tmp_path)
  losses = jax.jit(ours.apply)(params, batch).losses
  for side in ("encoder", "decoder"):
    of = {name: value for name, value in losses.items() if name.startswith(side)}
    (balance,) = (value for name, value in of.items() if name.endswith("balance"))
    (z,) = (value for name, value in of.items() if name.endswith("router_z"))
    np.testing.assert_allclose(balance, 0.03 * told[f"{side}_aux_loss"].item(), rtol=1e-5)
    np.testing.assert_allclose(z, 0.002 * told[f"{side}_z_loss"].item(), rtol=1e-5)


def test_published_checkpoints_have_a_word_more_in_their_config(tmp_path: Path) -> None:
  """What google/switch-base-8 says beside what transformers 5 writes."""
  harness.saved(model(num_layers=2, num_decoder_layers=2, num_sparse_encoder_layers=1), tmp_path)
  values = hf.read_config(tmp_path)
  more = {
    "feed_forward_proj": "relu", "is_gated_act": False, "num_selected_experts": 1,
    "router_type": "tokens_masked",
  }  # fmt: skip
  family = hf.family_of(values, "there")
  from mtm.families._published import Config

  told = Config({**values, **more})
  assert family.arguments(told) == family.arguments(Config(values))
  told.finish()
