"""LED: its published sizes, its two lengths and what it refuses; test_recorded.py compares what it
computes."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families._published import Config, complete
from mtm.families.led import HF, led
from mtm.interop._base import shapes
from tests.contracts.discovered import batch_for


@pytest.mark.parametrize(
  ("model", "wanted"),
  [
    # Counted by transformers 5.24's LEDForConditionalGeneration under the configs of
    # allenai/led-base-16384 and -large-16384.
    (led(6, 768, 12, 3072, 50265), 161_844_480),
    (led(12, 1024, 16, 4096, 50265), 459_801_600),
  ],
)
def test_parameter_count_is_the_published_one(model: Any, wanted: int) -> None:
  assert sum(map(math.prod, shapes(model).values())) == wanted


def test_each_side_has_a_longest_sequence() -> None:
  model = led(1, 16, 2, 24, 40, windows=(4,), max_length=20, decoder_max_length=8)
  batch = batch_for(model, length=8)
  assert batch["encoder_input_tokens"].shape[1] == 10
  params = jax.eval_shape(model.init, jax.random.key(0), batch)
  jax.eval_shape(model.apply, params, batch)
  long = {n: np.concatenate([x, x], 1) if n[0] == "d" else x for n, x in batch.items()}
  with pytest.raises(UserError, match="decoder_input_tokens is 16 long .* end at 8"):
    jax.eval_shape(model.apply, params, long)
  model.empty_cache(1, 9, 10)
  with pytest.raises(UserError, match="9 tokens .* end at 8"):
    model.empty_cache(1, 10, 10)


def test_a_config_written_from_arguments_gives_them_back() -> None:
  given = complete(led, {
    "layers": 4, "embed": 16, "heads": 2, "mlp": 24, "vocab": 40, "windows": (4, 8),
    "max_length": 64, "decoder_max_length": 16, "decoder_layers": 1, "decoder_heads": 4,
    "decoder_mlp": 12,
  })  # fmt: skip
  told = HF.config(given)
  assert told["attention_window"] == [4, 8, 4, 8]
  config = Config(told)
  again = complete(led, HF.arguments(config))
  config.finish()
  assert again == given


@pytest.mark.parametrize(
  "changed",
  [
    {"scale_embedding": True},
    {"tie_word_embeddings": False},
    {"normalize_before": True},
    {"attention_window": [8]},
    {"encoder_layerdrop": 0.1},
  ],
)
def test_what_it_cannot_honour_is_refused(changed: dict[str, Any]) -> None:
  config = Config({"vocab_size": 37, **changed})
  with pytest.raises(UserError, match=next(iter(changed))):
    HF.arguments(config)
    config.finish()
