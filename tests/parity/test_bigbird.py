"""BigBird against `transformers`: evaluated, where it draws no blocks, and as it trains."""

from __future__ import annotations

import functools
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

SPARSE, FULL = "block_sparse", "original_full"


def model(
  vocab: int = 37, places: int = 48, causal: bool = False, kind: str = SPARSE, **fields: Any
) -> Any:
  # Weights large enough that another GELU is told from this one.
  build = transformers.BigBirdForCausalLM if causal else transformers.BigBirdForMaskedLM
  config = transformers.BigBirdConfig(
    vocab_size=vocab, max_position_embeddings=places, attention_type=kind, is_decoder=causal,
    attn_implementation="eager", initializer_range=0.4, **fields,
  )  # fmt: skip
  made = build(config)
  made.bert.pooler = None  # no logit of a token reads it
  return made


SIZES = {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 20}
LONG = harness.Padding((24, 15, 9), 24)

CASES = {
  "bigbird": harness.Case(
    lambda: model(**SIZES, num_hidden_layers=2, block_size=2, num_random_blocks=1),
    harness.encoder(37, types=2, padding=LONG),
  ),
  "bigbird_uneven": harness.Case(  # theirs pads rows and does not cut its hidden states back
    lambda: model(
      **SIZES, num_hidden_layers=3, block_size=3, num_random_blocks=2, use_bias=False,
      rescale_embeddings=True, hidden_act="gelu", type_vocab_size=3,
    ),
    harness.encoder(37, types=3, padding=harness.Padding((40, 37, 31), 40)),
    states=False,
  ),
  "bigbird_short": harness.Case(  # no longer than what it sees: in full
    lambda: model(**SIZES, num_hidden_layers=2, block_size=2, num_random_blocks=3),
    harness.encoder(37, padding=harness.Padding((22, 15, 9), 22)),
  ),
  "bigbird_full": harness.Case(
    lambda: model(**SIZES, num_hidden_layers=2, kind=FULL, block_size=2, num_random_blocks=1),
    harness.encoder(37, types=2, padding=LONG),
  ),
  "bigbird_causal": harness.Case(
    lambda: model(**SIZES, num_hidden_layers=2, causal=True, kind=FULL, use_bias=False),
    harness.decoder(37),
    generates=True,
  ),
}  # fmt: skip


def draw(rng: draws.Rng) -> harness.Case:
  n, act, block, random = (
    draws.sizes(rng), draws.activation(rng), int(rng.integers(1, 4)), int(rng.integers(1, 4))
  )  # fmt: skip
  bias, scaled = bool(rng.integers(2)), bool(rng.integers(2))
  length = (4 + 2 * random) * block + int(rng.integers(1, 4 * block))
  # Twice as wide as others: a norm of two features is a sign, and its gradient in float32 is noise.
  return harness.Case(
    lambda: model(
      n.vocab, length + n.places, hidden_size=2 * n.embed, num_attention_heads=n.heads,
      num_hidden_layers=n.layers, intermediate_size=n.mlp, hidden_act=act, block_size=block,
      num_random_blocks=random, use_bias=bias, rescale_embeddings=scaled,
    ),
    harness.encoder(n.vocab, 2, padding=draws.padding(rng, length, left=False)),
    states=False, spread=draws.SPREAD,
  )  # fmt: skip


DRAWS = {"bigbird": draw}


@pytest.mark.parametrize("name", list(CASES))
def test_logits_gradients_and_generation(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)


@pytest.mark.parametrize(
  ("block", "random", "length", "places"),
  [
    (2, 1, 24, 48),
    (3, 2, 40, 48),
    (1, 3, 33, 48),
    (64, 3, 1024, 4096),  # a plan for the longest row; the last block is drawn too
    (64, 3, 1024, 1100),  # so short a one that blocks are drawn that are seen anyway
    (128, 1, 3072, 4096),
  ],
)
def test_blocks_drawn_in_training_are_theirs(
  block: int, random: int, length: int, places: int, tmp_path: Path
) -> None:
  """Logits of theirs in training, without dropout."""
  torch.manual_seed(0)
  made = model(
    places=places, hidden_size=16, num_attention_heads=2, intermediate_size=8, num_hidden_layers=2,
    block_size=block, num_random_blocks=random, hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
  )  # fmt: skip
  harness.saved(made, tmp_path, spread=0.2)
  padding = harness.Padding((length, length - 2 * block - 1), length)
  batch, told, mask = harness.encoder(37, padding=padding)()
  with torch.no_grad():
    wanted = harness.called(made.train(), told).logits.numpy()
    evaluated = harness.called(made.eval(), told).logits.numpy()
  ours, params = harness.opened(tmp_path)
  real = mask > 0
  logits = jax.jit(functools.partial(ours.apply, train=True))(params, batch).logits
  harness.close(np.asarray(logits)[real], wanted[real], "in training")
  logits = jax.jit(ours.apply)(params, batch).logits
  harness.close(np.asarray(logits)[real], evaluated[real], "in evaluation")
  assert np.abs(wanted - evaluated)[real].max() > 1e-2
  always = hf.FORMAT.open(tmp_path).model(drawn_in_eval=True)
  logits = jax.jit(always.apply)(params, batch).logits
  harness.close(np.asarray(logits)[real], wanted[real], "as in the paper")
