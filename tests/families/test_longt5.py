"""LongT5: what a config says, its size, what its encoder sees; logits are in test_recorded.py."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families import longt5 as module
from mtm.families._published import Config
from mtm.families.longt5 import longt5
from mtm.families.t5 import t5
from mtm.interop._base import shapes
from tests.contracts.discovered import batch_for, parameters

SMALL: dict[str, Any] = {"dropout": 0.0}


@pytest.mark.parametrize(("block", "wanted"), [(None, 247_577_856), (16, 247_587_456)])
def test_parameter_count_is_that_of_t5_and_the_summaries(block: int | None, wanted: int) -> None:
  """T5 1.1 base (247,577,856); a norm of 768 in each of 12 layers and one table of 12 · 32."""
  model = longt5(12, 768, 12, 64, 2048, 32128, block=block)
  assert sum(map(math.prod, shapes(model).values())) == wanted


def test_it_is_t5_where_the_window_covers_the_row_and_there_are_no_summaries() -> None:
  sizes = 2, 16, 4, 4, 24, 40
  batch = batch_for(t5(*sizes))
  params = parameters(t5(*sizes).init, batch)
  models = t5(*sizes, **SMALL), longt5(*sizes, radius=9, block=None, **SMALL)
  ours, theirs = (jax.jit(model.apply)(params, batch).logits for model in models)
  np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("block", "far"), [(None, False), (4, True)])
def test_a_far_token_is_seen_through_its_block_only(block: int | None, far: bool) -> None:
  """One layer with a radius of 2: the last of 10 tokens reaches the first by a summary or not."""
  model = longt5(1, 16, 4, 4, 24, 40, radius=2, block=block, **SMALL)
  batch = batch_for(model)
  params = parameters(model.init, batch)
  changed = {**batch, "encoder_input_tokens": batch["encoder_input_tokens"].copy()}
  changed["encoder_input_tokens"][:, -1] = batch["encoder_input_tokens"][:, -1] % 30 + 2
  a, b = (jax.jit(model.apply)(params, x).encoded for x in (batch, changed))
  moved = np.abs(a - b).max((0, 2)) > 0
  np.testing.assert_array_equal(moved, np.arange(10) >= 7 if not far else np.ones(10, bool))


def test_what_a_config_says() -> None:
  told = module.HF.arguments(Config({"vocab_size": 40}))
  assert (told["radius"], told["block"]) == (127, None)
  values = {"vocab_size": 40, "encoder_attention_type": "transient-global", "local_radius": 5}
  told = module.HF.arguments(Config(values))
  assert (told["radius"], told["block"]) == (5, 16)
  with pytest.raises(UserError, match="encoder_attention_type = 'full'.*'local' or 'transient"):
    module.HF.arguments(Config({"vocab_size": 40, "encoder_attention_type": "full"}))
