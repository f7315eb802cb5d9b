"""GPT-Neo: its sizes, its windows and what it refuses; logits are in test_recorded.py."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families import gpt_neo as module
from mtm.families._published import Config
from mtm.families.gpt_neo import gpt_neo
from mtm.types import Model
from tests.contracts.discovered import batch_for, parameters


@pytest.mark.parametrize(
  ("model", "wanted"),
  [
    # Counted by transformers 5.24's GPTNeoForCausalLM under the configs of EleutherAI/gpt-neo-125M,
    # -1.3B and -2.7B.
    (gpt_neo(12, 768, 12, 50257), 125_198_592),
    (gpt_neo(24, 2048, 16, 50257), 1_315_575_808),
    (gpt_neo(32, 2560, 20, 50257), 2_651_307_520),
  ],
)
def test_parameter_count_is_the_published_one(model: Model, wanted: int) -> None:
  batch = {"decoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted


def test_a_window_counts_the_query_and_the_tokens_just_before() -> None:
  """One layer with a window of 3: the token at 0 reaches the logits of 0, 1 and 2."""
  model = gpt_neo(1, 16, 4, 40, windows=(3,), max_length=32)
  batch = batch_for(model)
  params = parameters(model.init, batch)
  changed = {**batch, "decoder_input_tokens": batch["decoder_input_tokens"].copy()}
  changed["decoder_input_tokens"][:, 0] += 1
  a, b = (jax.jit(model.apply)(params, x).logits for x in (batch, changed))
  np.testing.assert_array_equal(np.abs(a - b).max((0, 2)) > 0, np.arange(8) < 3)


def arguments(layers: int, types: list[Any], **more: Any) -> dict[str, Any]:
  values = {"vocab_size": 40, "num_layers": layers, "attention_types": types, "window_size": 8}
  return module.HF.arguments(Config({**values, **more}))


@pytest.mark.parametrize(
  ("layers", "types", "wanted"),
  [
    (4, [[["global", "local"], 2]], (None, 8)),
    (3, [[["global"], 3]], (None,)),
    (3, [[["global", "local", "global"], 1]], (None, 8, None)),
    (4, [[["local", "global"], 1], [["local"], 1], [["global"], 1]], (8, None)),
    (2, [[["local"], 1], [["local"], 1]], (8,)),
  ],
)
def test_the_period_of_a_config(layers: int, types: list[Any], wanted: tuple[Any, ...]) -> None:
  assert arguments(layers, types)["windows"] == wanted


@pytest.mark.parametrize(
  ("layers", "types", "more", "name"),
  [
    (3, [[["global"], 2], [["local"], 1]], {}, "attention_types.* no period"),
    (3, [[["global", "local"], 2]], {}, "attention_types"),
    (2, [[["global", "sparse"], 1]], {}, "attention_types"),
    (2, [[["global", "local"], 1]], {"attention_layers": ["local", "global"]}, "attention_layers"),
    (2, [[["global", "local"], 1]], {"embed_dropout": 0.1}, "embed_dropout"),
    (2, [[["global", "local"], 1]], {"tie_word_embeddings": False}, "tie_word_embeddings"),
  ],
)
def test_what_it_cannot_honour_is_refused_by_name(
  layers: int, types: list[Any], more: dict[str, Any], name: str
) -> None:
  with pytest.raises(UserError, match=name):
    arguments(layers, types, **more)


def test_wrong_windows_are_told() -> None:
  with pytest.raises(UserError, match="layers = 3 is no multiple"):
    gpt_neo(3, 16, 4, 40)
  with pytest.raises(UserError, match="at least 1"):
    gpt_neo(2, 16, 4, 40, windows=(0,))
  two = arguments(2, [[["local", "local"], 1]]) | {"windows": (2, 3)}
  with pytest.raises(UserError, match="one window_size"):
    module.HF.config(two)
