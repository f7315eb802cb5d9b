"""Mixtral against `transformers`: experts apart and together in a checkpoint, windows, its loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from safetensors.numpy import load_file  # noqa: E402

from mtm.interop import hf  # noqa: E402
from mtm.interop._base import Export  # noqa: E402
from mtm.interop.safetensors import ONE  # noqa: E402
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(vocab: int = 37, mlp: int = 20, **fields: Any) -> Any:
  config = transformers.MixtralConfig(
    vocab_size=vocab, intermediate_size=mlp, bos_token_id=0, eos_token_id=1, pad_token_id=0,
    attn_implementation="eager", experts_implementation="eager", **fields,
  )  # fmt: skip
  return transformers.MixtralForCausalLM(config)


CASES = {
  "mixtral": harness.Case(
    lambda: model(
      hidden_size=12, num_attention_heads=3, num_key_value_heads=3, num_hidden_layers=2,
      num_local_experts=4,
    ),
    harness.decoder(37),
    generates=True,
  ),
  "mixtral_window": harness.Case(
    lambda: model(
      mlp=9, hidden_size=16, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2,
      num_local_experts=5, num_experts_per_tok=3, sliding_window=3, tie_word_embeddings=True,
    ),
    harness.decoder(37),
    generates=True,
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  n, groups = draws.sizes(rng, even=True), int(rng.integers(1, 4))  # rotary turns pairs
  experts = int(rng.integers(2, 7))
  told = {
    "num_local_experts": experts, "num_experts_per_tok": int(rng.integers(1, experts + 1)),
    "sliding_window": draws.pick(rng, (None, 1, 2, 4)),
    "tie_word_embeddings": bool(rng.integers(2)),
  }  # fmt: skip
  return harness.Case(
    lambda: model(
      n.vocab, n.mlp, hidden_size=n.embed * groups, num_attention_heads=n.heads * groups,
      num_key_value_heads=n.heads, num_hidden_layers=n.layers, **told,
    ),
    harness.decoder(n.vocab, draws.padding(rng, n.length)),
    generates=True, spread=draws.SPREAD, beams=draws.beams(rng),
  )  # fmt: skip


DRAWS = {"mixtral": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)


def test_the_balance_loss(tmp_path: Path) -> None:
  """Of one layer and one row: theirs joins layers and rows before it multiplies shares with
  probabilities, and ours takes each by itself."""
  theirs = model(
    hidden_size=12, num_attention_heads=3, num_key_value_heads=3, num_hidden_layers=1,
    num_local_experts=4, router_aux_loss_coef=0.03,
  )  # fmt: skip
  harness.saved(theirs, tmp_path)
  batch, inputs, _ = harness.decoder(37, harness.Padding((12,), 12))()
  told = harness.called(theirs, inputs, output_router_logits=True)
  ours, params = harness.opened(tmp_path)
  losses = jax.jit(ours.apply)(params, batch).losses
  (balance,) = (value for name, value in losses.items() if name.endswith("balance"))
  np.testing.assert_allclose(balance, 0.03 * told.aux_loss.item(), rtol=1e-5)


@pytest.mark.parametrize("apart", [True, False])
def test_experts_apart_and_together_are_read_and_written_back(tmp_path: Path, apart: bool) -> None:
  """Checkpoints hold three tensors for each expert; transformers 5 can also save two for all."""
  torch.manual_seed(0)
  theirs = model(
    hidden_size=12, num_attention_heads=3, num_key_value_heads=1, num_hidden_layers=2,
    num_local_experts=3,
  )  # fmt: skip
  theirs.save_pretrained(tmp_path / "theirs", save_original_format=apart)
  tensors = load_file(tmp_path / "theirs" / ONE)
  assert any("block_sparse_moe.experts.2.w3" in name for name in tensors) == apart
  foreign = hf.FORMAT.open(tmp_path / "theirs")
  params = foreign.params(foreign.model(), lambda path, values: values)
  kept = tmp_path / "kept"
  kept.mkdir()
  (kept / hf.CONFIG).write_text((tmp_path / "theirs" / hf.CONFIG).read_text())
  (kept / "layout.json").write_text(json.dumps(foreign.layout))
  hf.FORMAT.write(tmp_path / "back", Export(foreign.build, foreign.arguments, params, kept))
  back = load_file(tmp_path / "back" / ONE)
  assert back.keys() == tensors.keys()
  for name, values in tensors.items():
    np.testing.assert_array_equal(back[name], values, err_msg=name)
  again = transformers.MixtralForCausalLM.from_pretrained(tmp_path / "back")
  for name, values in theirs.state_dict().items():
    np.testing.assert_array_equal(again.state_dict()[name], values, err_msg=name)
