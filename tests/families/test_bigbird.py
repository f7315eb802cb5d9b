"""BigBird: its sizes, its blocks and what it refuses; its numbers are in test_recorded.py."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families._published import Config, complete
from mtm.families.bigbird import HF, bigbird
from mtm.interop._base import shapes
from tests.contracts.discovered import batch_for, parameters


@pytest.mark.parametrize(
  ("model", "wanted"),
  [
    # Counted by transformers 5.24's BigBirdForMaskedLM under the configs of
    # google/bigbird-roberta-base and -large, without the pooler, which no logit of a token reads.
    (bigbird(12, 768, 12, 50358), 127_520_694),
    (bigbird(24, 1024, 16, 50358), 359_176_374),
  ],
)
def test_parameter_count_is_the_published_one(model: Any, wanted: int) -> None:
  assert sum(map(math.prod, shapes(model).values())) == wanted


def test_a_token_sees_blocks_near_global_and_drawn_ones() -> None:
  """One layer with blocks of 2 and 1 drawn block: a token in the third of 10 blocks reaches the
  first and last block, its neighbours, and those that drew it."""
  model = bigbird(1, 16, 2, 40, max_length=20, block=2, random=1)
  batch = batch_for(model, length=20)
  params = parameters(model.init, batch)
  changed = {**batch, "encoder_input_tokens": batch["encoder_input_tokens"].copy()}
  changed["encoder_input_tokens"][:, 5] += 1
  a, b = (jax.jit(model.apply)(params, x).logits for x in (batch, changed))
  moved = np.abs(a - b).max((0, 2)).reshape(10, 2).max(1) > 0
  assert moved[[0, 1, 2, 3, 9]].all() and not moved.all()


def test_what_is_seen_in_evaluation_is_told() -> None:
  """The paper's: no difference; that of transformers: the first block instead of drawn ones."""
  for drawn in (True, False):
    model = bigbird(
      1, 16, 2, 40, max_length=20, block=2, random=1, drawn_in_eval=drawn, dropout=0.0
    )
    batch = batch_for(model, length=20)
    params = parameters(model.init, batch)
    run = jax.jit(model.apply, static_argnames="train")
    train, evaluated = (run(params, batch, train=train).logits for train in (True, False))
    assert (np.abs(train - evaluated).max() < 1e-5) == drawn


@pytest.mark.parametrize(
  ("changed", "name"),
  [
    ({"is_decoder": True}, "attention_type"),
    ({"attention_type": "banded"}, "attention_type"),
    ({"add_cross_attention": True}, "add_cross_attention"),
    ({"tie_word_embeddings": False}, "tie_word_embeddings"),
    ({"hidden_dropout_prob": 0.3}, "hidden_dropout_prob"),
  ],
)
def test_what_it_cannot_honour_is_refused(changed: dict[str, Any], name: str) -> None:
  with pytest.raises(UserError, match=name):
    HF.arguments(Config({"vocab_size": 37, **changed}))


def test_a_decoder_with_blocks_is_refused() -> None:
  with pytest.raises(UserError, match="block = None"):
    bigbird(1, 16, 2, 40, causal=True)


def test_what_transformers_cannot_do_is_not_written() -> None:
  given = {"layers": 1, "embed": 16, "heads": 2, "vocab": 40}
  with pytest.raises(UserError, match="drawn_in_eval = False"):
    HF.config(complete(bigbird, given))
  told = HF.config(complete(bigbird, {**given, "drawn_in_eval": False}))
  assert told["attention_type"] == "block_sparse" and told["block_size"] == 64
  assert HF.config(complete(bigbird, {**given, "random": 0}))["num_random_blocks"] == 0
