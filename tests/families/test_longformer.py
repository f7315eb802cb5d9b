"""Longformer: its sizes, its windows and what it refuses; its numbers are in test_recorded.py."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families._published import Config, complete
from mtm.families.longformer import HF, longformer
from mtm.interop._base import shapes
from tests.contracts.discovered import batch_for, parameters


@pytest.mark.parametrize(
  ("model", "wanted"),
  [
    # Counted by transformers 5.24's LongformerForMaskedLM under the configs of
    # allenai/longformer-base-4096 and -large-4096.
    (longformer(12, 768, 12, 50265), 148_711_257),
    (longformer(24, 1024, 16, 50265), 434_653_273),
  ],
)
def test_parameter_count_is_the_published_one(model: Any, wanted: int) -> None:
  assert sum(map(math.prod, shapes(model).values())) == wanted


def moved(model: Any, place: int, **more: np.ndarray) -> np.ndarray:
  """Which of 12 logits another token at `place` changes, bool `[12]`."""
  batch = {**batch_for(model, length=12), **more}
  params = parameters(model.init, batch)
  changed = {**batch, "encoder_input_tokens": batch["encoder_input_tokens"].copy()}
  changed["encoder_input_tokens"][:, place] += 1
  a, b = (jax.jit(model.apply)(params, x).logits for x in (batch, changed))
  return np.abs(a - b).max((0, 2)) > 0


def test_a_token_reaches_half_a_window_on_each_side_and_global_ones_all() -> None:
  model, places = longformer(1, 16, 2, 40, windows=(4,), max_length=12), np.arange(12)
  np.testing.assert_array_equal(moved(model, 5), np.abs(places - 5) <= 2)
  told = np.tile((places == 10).astype(np.int32), (2, 1))
  near = (np.abs(places - 5) <= 2) | (places == 10)
  np.testing.assert_array_equal(moved(model, 5, encoder_global_attention=told), near)
  assert moved(model, 10, encoder_global_attention=told).all()


def test_the_first_token_is_global_where_asked_and_not_told() -> None:
  model = longformer(1, 16, 2, 40, windows=(4,), first_global=1, max_length=12)
  assert moved(model, 0).all()
  nobody = np.zeros((2, 12), np.int32)
  np.testing.assert_array_equal(
    moved(model, 0, encoder_global_attention=nobody), np.arange(12) <= 2
  )


@pytest.mark.parametrize(
  ("told", "layers", "wanted"),
  [(8, 3, (8,)), ([8, 8], 2, (8,)), ([4, 8, 4, 8], 4, (4, 8)), ([4, 8, 8], 3, (4, 8, 8))],
)
def test_the_period_of_a_config(told: Any, layers: int, wanted: tuple[int, ...]) -> None:
  values = {"vocab_size": 37, "num_hidden_layers": layers, "attention_window": told}
  arguments = HF.arguments(Config(values))
  assert arguments["windows"] == wanted
  again = HF.config(complete(longformer, arguments))["attention_window"]
  assert again == (told if isinstance(told, list) else [told] * layers)


@pytest.mark.parametrize(
  ("changed", "name"),
  [
    ({"attention_window": [8, 8, 8]}, "attention_window"),
    ({"attention_mode": "tvm"}, "attention_mode"),
    ({"ignore_attention_mask": True}, "ignore_attention_mask"),
    ({"pad_token_id": 0}, "pad_token_id"),
    ({"attention_dilation": [1, 2]}, "attention_dilation"),
  ],
)
def test_what_it_cannot_honour_is_refused(changed: dict[str, Any], name: str) -> None:
  config = Config({"vocab_size": 37, "num_hidden_layers": 2, **changed})
  with pytest.raises(UserError, match=name):
    HF.arguments(config)
    config.finish()


@pytest.mark.parametrize(
  ("fields", "name"),
  [
    ({"windows": (4, 6, 8)}, "no multiple"),
    ({"windows": (3,)}, "even"),
    ({"windows": ()}, "no multiple"),
    ({"max_global": 1, "first_global": 2}, "raise max_global"),
  ],
)
def test_wrong_windows_are_told(fields: dict[str, Any], name: str) -> None:
  with pytest.raises(UserError, match=name):
    longformer(2, 16, 2, 40, **fields)
