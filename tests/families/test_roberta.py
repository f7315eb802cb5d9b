"""RoBERTa: its size and what of its configs is refused; its numbers are in test_recorded.py."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families._published import Config
from mtm.families.roberta import HF, roberta


def test_parameter_count_is_the_published_one() -> None:
  # transformers' RobertaForMaskedLM of roberta-base: 124,645,632 of RobertaModel with a pooler
  # (590,592), without it and with the head's own 768² + 768 + 2 · 768 + 50265. The paper says 125M.
  model = roberta(12, 768, 12, 50265)
  batch = {"encoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  wanted = 124_645_632 - 590_592 + 768**2 + 768 + 2 * 768 + 50265
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted == 124_697_433


def test_the_longest_sequence_leaves_out_the_rows_before_the_first_position() -> None:
  arguments = HF.arguments(Config({"vocab_size": 50265, "max_position_embeddings": 514}))
  assert arguments["max_length"] == 512


@pytest.mark.parametrize(
  "changed",
  [{"pad_token_id": 0}, {"is_decoder": True}, {"position_embedding_type": "relative_key"},
   {"tie_word_embeddings": False}],
)  # fmt: skip
def test_what_it_cannot_honour_is_refused(changed: dict[str, object]) -> None:
  with pytest.raises(UserError, match=next(iter(changed))):
    HF.arguments(Config({"vocab_size": 37, **changed}))
