"""Mamba against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import harness  # noqa: E402

pytestmark = pytest.mark.parity


def model(**fields: Any) -> Any:
  config = transformers.MambaConfig(
    vocab_size=37, bos_token_id=0, eos_token_id=1, pad_token_id=0, **fields
  )
  return transformers.MambaForCausalLM(config)


CASES = {
  "mamba": harness.Case(
    lambda: model(hidden_size=20, num_hidden_layers=2, state_size=4),
    harness.decoder(37),
    generates=True,
  ),
  "mamba_biased": harness.Case(
    lambda: model(
      hidden_size=12, num_hidden_layers=3, state_size=7, conv_kernel=3, expand=3, time_step_rank=5,
      use_bias=True, use_conv_bias=False, tie_word_embeddings=False, layer_norm_epsilon=0.1,
    ),
    harness.decoder(37),
    generates=True,
  ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
