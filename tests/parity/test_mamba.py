"""Mamba against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


class MambaForCausalLM(transformers.MambaForCausalLM):  # the name goes into its config
  """Theirs, with hidden states as other families tell them: it leaves out what enters the layers,
  and tells what leaves the last one before its norm too."""

  def forward(self, input_ids: Any, **inputs: Any) -> Any:
    out = super().forward(input_ids, **inputs)
    if out.hidden_states is not None:
      *states, _, last = out.hidden_states
      out.hidden_states = (self.backbone.embeddings(input_ids), *states, last)
    return out


def model(vocab: int = 37, **fields: Any) -> Any:
  config = transformers.MambaConfig(
    vocab_size=vocab, bos_token_id=0, eos_token_id=1, pad_token_id=0, **fields
  )
  return MambaForCausalLM(config)


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


def draw(rng: draws.Rng) -> harness.Case:
  n, state, taps = draws.sizes(rng), int(rng.integers(1, 9)), int(rng.integers(2, 6))
  bias, conv_bias, tied = (bool(x) for x in rng.integers(2, size=3))
  rank, expand = draws.pick(rng, ("auto", 1, 3)), int(rng.integers(1, 4))
  return harness.Case(
    lambda: model(
      n.vocab, hidden_size=n.embed, num_hidden_layers=n.layers, state_size=state, conv_kernel=taps,
      expand=expand, time_step_rank=rank, use_bias=bias, use_conv_bias=conv_bias,
      tie_word_embeddings=tied,
    ),
    harness.decoder(n.vocab, draws.padding(rng, n.length), positions=False),
    generates=True, spread=draws.SPREAD, beams=draws.beams(rng),
  )  # fmt: skip


DRAWS = {"mamba": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)
