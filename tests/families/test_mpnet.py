"""MPNet: its size and what of its configs is refused; its numbers are in test_recorded.py."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families._published import Config
from mtm.families.mpnet import HF, mpnet


def test_parameter_count_is_the_published_one() -> None:
  # transformers' MPNetForMaskedLM of mpnet-base: 109,486,464 of MPNetModel with a pooler (590,592),
  # without it and with the head's own 768² + 768 + 2 · 768 + 30527. The paper says 110M.
  model = mpnet(12, 768, 12, 30527)
  batch = {"encoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  wanted = 109_486_464 - 590_592 + 768**2 + 768 + 2 * 768 + 30527
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted == 109_518_527


def test_another_number_of_buckets_is_refused() -> None:
  with pytest.raises(UserError, match="relative_attention_num_buckets"):
    HF.arguments(Config({"vocab_size": 37, "relative_attention_num_buckets": 16}))
