"""ALBERT: its sizes and what of its configs is refused; its numbers are in test_recorded.py."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families._published import Config
from mtm.families.albert import HF, albert
from mtm.types import Model


@pytest.mark.parametrize(
  ("model", "wanted"),
  [  # transformers' AlbertForMaskedLM of albert-base-v2 to -xxlarge-v2
    (albert(12, 768, 12, 30000), 11_221_680),
    (albert(24, 1024, 16, 30000), 16_795_824),
    (albert(24, 2048, 16, 30000), 54_821_040),
    (albert(12, 4096, 64, 30000), 206_368_944),
  ],
)
def test_parameter_count_is_the_published_one(model: Model, wanted: int) -> None:
  batch = {"encoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted


@pytest.mark.parametrize(
  "changed", [{"num_hidden_groups": 2}, {"inner_group_num": 2}, {"net_structure_type": 1}]
)
def test_what_it_cannot_honour_is_refused(changed: dict[str, object]) -> None:
  with pytest.raises(UserError, match=next(iter(changed))):
    HF.arguments(Config({"vocab_size": 37, **changed}))


def test_words_of_the_published_config_that_say_nothing_are_passed_over() -> None:
  config = Config({
    "vocab_size": 30000, "down_scale_factor": 1, "net_structure_type": 0, "gap_size": 0,
    "num_memory_blocks": 0, "layers_to_keep": [], "classifier_dropout_prob": 0.1,
  })  # fmt: skip
  HF.arguments(config)
  config.finish()
