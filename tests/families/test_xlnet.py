"""XLNet: its sizes, packing and refusals; its numbers are in test_recorded.py."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families._published import Config, complete
from mtm.families.xlnet import HF, xlnet
from mtm.interop import hf
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.window import Window
from mtm.types import Model
from tests.contracts.discovered import parameters

TINY = {"layers": 2, "embed": 12, "heads": 3, "vocab": 40, "mlp": 20}
# What both published models say, but for their sizes.
PUBLISHED = {
  "vocab_size": 32000, "attn_type": "bi", "bi_data": False, "clamp_len": -1, "d_head": 64,
  "mem_len": None, "reuse_len": None, "same_length": False, "untie_r": True, "start_n_top": 5,
  "end_n_top": 5, "summary_last_dropout": 0.1, "summary_type": "last", "ff_activation": "gelu",
}  # fmt: skip
CUT, LENGTH = 4, 9


def typed() -> dict[str, np.ndarray]:
  """Two packed documents with token types, and two places of padding, in one row."""
  rng = np.random.default_rng(0)
  segments = np.repeat([1, 2, 0], [CUT, LENGTH - CUT - 2, 2])[None]
  positions = np.concatenate([np.arange(CUT), np.arange(LENGTH - CUT)])[None]
  return {
    "encoder_input_tokens": rng.integers(2, 40, (1, LENGTH)).astype(np.int32),
    "encoder_segment_ids": segments.astype(np.int32),
    "encoder_positions": positions.astype(np.int32),
    "encoder_token_types": rng.integers(0, 3, (1, LENGTH)).astype(np.int32),
  }


@pytest.mark.parametrize(
  ("model", "wanted"),
  [  # transformers' XLNetLMHeadModel of the published configs, on its meta device: of them 116.7M
    # and 360.3M are those of its XLNetModel, and 32,000 the head's biases.
    (xlnet(12, 768, 12, 32000), 116_718_336 + 32_000),
    (xlnet(24, 1024, 16, 32000), 360_268_800 + 32_000),
  ],
)
def test_parameter_count_is_the_published_one(model: Model, wanted: int) -> None:
  batch = {"encoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_packed_document_never_sees_its_neighbour(dtype: str) -> None:
  model, batch = xlnet(**TINY, dtype=dtype), typed()
  params = parameters(model.init, batch)
  apply = jax.jit(lambda batch: model.apply(params, batch).logits)
  before, segments = np.asarray(apply(batch)), batch["encoder_segment_ids"]
  for kept in (1, 2):
    mine, other = segments == kept, dict(batch)
    for name in ("encoder_input_tokens", "encoder_token_types"):
      other[name] = np.where(mine, batch[name], (batch[name] * 7 + 11) % 40)
    after = np.asarray(apply(other))
    np.testing.assert_array_equal(before[mine], after[mine])
    assert not np.array_equal(before[~mine], after[~mine])


def test_packed_documents_are_what_they_are_alone() -> None:
  model, batch = xlnet(**TINY), typed()
  params = parameters(model.init, batch)
  together = jax.jit(model.apply)(params, batch).logits
  for start, end in ((0, CUT), (CUT, LENGTH - 2)):
    own = {name: x[:, start:end] for name, x in batch.items()}
    alone = jax.jit(model.apply)(params, own).logits
    np.testing.assert_allclose(together[:, start:end], alone, rtol=1e-4, atol=1e-4)


def test_every_parameter_but_the_mask_gets_a_gradient_of_typed_tokens() -> None:
  model, batch = xlnet(**TINY), typed()
  params = parameters(model.init, batch)
  weight = np.random.default_rng(1).normal(size=(1, LENGTH, 40)).astype(np.float32)
  loss = jax.jit(jax.grad(lambda p: (model.apply(p, batch).logits * weight).sum()))
  for path, grad in jax.tree_util.tree_flatten_with_path(loss(params))[0]:
    assert (np.abs(grad).max() > 1e-6) == (path[-1].key != "mask"), path


def test_only_whether_types_differ_counts() -> None:
  model, batch = xlnet(**TINY), typed()
  params = parameters(model.init, batch)
  renamed = {**batch, "encoder_token_types": np.array([5, 0, 9])[batch["encoder_token_types"]]}
  one = {**batch, "encoder_token_types": np.zeros_like(batch["encoder_token_types"])}
  none = {name: x for name, x in batch.items() if name != "encoder_token_types"}
  apply = jax.jit(lambda batch: model.apply(params, batch).logits)
  np.testing.assert_array_equal(apply(batch), apply(renamed))
  np.testing.assert_allclose(apply(one), apply(none), rtol=1e-4, atol=1e-4)
  assert np.abs(apply(batch) - apply(one)).max() > 1e-2


def test_the_published_configs_are_read() -> None:
  theirs = Config({**PUBLISHED, "d_model": 768, "n_head": 12, "n_layer": 12, "d_inner": 3072})
  found = HF.arguments(theirs)
  theirs.finish()
  assert (found["layers"], found["embed"], found["heads"], found["mlp"]) == (12, 768, 12, 3072)


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("untie_r", False), ("bi_data", True), ("clamp_len", 400), ("same_length", True),
    ("mem_len", 512), ("use_mems_train", True), ("attn_type", "both"), ("d_head", 32),
    ("tie_word_embeddings", False), ("ff_activation", "mish"),
  ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused(name: str, value: Any) -> None:
  with pytest.raises(UserError, match=f"has {name} = {value!r}, which mtm cannot honour"):
    HF.arguments(Config({**PUBLISHED, name: value}))


def test_a_memory_that_is_not_used_is_not_refused() -> None:
  theirs = Config({**PUBLISHED, "mem_len": 512, "use_mems_eval": False})
  HF.arguments(theirs)
  theirs.finish()


def test_a_summary_head_is_refused() -> None:
  told = {"model_type": "xlnet", "architectures": ["XLNetForSequenceClassification"]}
  with pytest.raises(UserError, match="XLNetForSequenceClassification, and mtm reads of xlnet"):
    hf.family_of(told, "config.json")


def test_what_has_no_published_form_is_not_written() -> None:
  arguments = complete(xlnet, TINY)
  assert HF.config(arguments)["attn_type"] == "bi"
  assert HF.config({**arguments, "pattern": Causal()})["attn_type"] == "uni"
  with pytest.raises(UserError, match="no config.json"):
    HF.config({**arguments, "pattern": Window(2, 2)})
  for name in ("token_types", "mask_vector"):
    with pytest.raises(UserError, match="cannot be written"):
      HF.rows({**arguments, name: False})
