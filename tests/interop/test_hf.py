"""HuggingFace directories: which family they are of, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mtm.errors import UserError
from mtm.families.gpt2 import gpt2
from mtm.interop import hf
from mtm.interop._base import Export, shapes
from mtm.interop.safetensors import ONE
from tests.families import recorded


def changed(folder: Path, **values: Any) -> Path:
  """The directory with some settings of its config replaced."""
  config = folder / hf.CONFIG
  config.write_text(json.dumps({**json.loads(config.read_text()), **values}))
  return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
  return recorded.directory("gpt2", tmp_path / "gpt2")


@pytest.mark.parametrize(
  ("values", "told"),
  [
    ({"model_type": "gpt_2"}, "model_type = 'gpt_2'; did you mean 'gpt2'"),
    ({"architectures": ["GPT2ForTokenClassification"]}, "is a GPT2ForTokenClassification"),
    ({"activation_function": "gelu_10"}, "activation_function = 'gelu_10'"),
    ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
    ({"resid_pdrop": 0.3}, "resid_pdrop = 0.3, embd_pdrop = 0.1"),
    ({"n_groups": 4}, "n_groups = 4, which this family does not know"),
    ({"vocab_size": None}, "has no 'vocab_size'"),
    ({"n_embd": 24}, "does not fit the model its config says|gives a parameter of shape"),
  ],
)
def test_a_config_that_cannot_be_honoured_is_refused(
  folder: Path, values: dict[str, Any], told: str
) -> None:
  with pytest.raises(UserError, match=told):
    foreign = hf.FORMAT.open(changed(folder, **values))
    foreign.params(foreign.model(), lambda path, values: values)


def bare(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
  return {k.removeprefix(prefix): x for k, x in tensors.items() if k != "final_logits_bias"}


def old(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
  """Norms are called as the first BERT's were."""
  del prefix
  return {
    k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
    for k, x in tensors.items()
  }


@pytest.mark.parametrize(
  ("name", "prefix", "change"),
  [("gpt2", "transformer.", bare), ("bart", "model.", bare), ("bert", "bert.", old)],
)
def test_other_names_are_read_and_written_back(
  name: str, prefix: str, change: Any, tmp_path: Path
) -> None:
  folder = recorded.directory(name, tmp_path / "theirs")
  tensors = change(load_file(folder / ONE), prefix)
  assert tensors.keys() != load_file(folder / ONE).keys()
  save_file(tensors, folder / ONE)
  foreign = hf.FORMAT.open(folder)
  params = foreign.params(foreign.model(), lambda path, values: values)
  kept = tmp_path / "kept"
  kept.mkdir()
  (kept / hf.CONFIG).write_text((folder / hf.CONFIG).read_text())
  (kept / "layout.json").write_text(json.dumps(foreign.layout))
  hf.FORMAT.write(tmp_path / "back", Export(foreign.build, foreign.arguments, params, kept))
  assert load_file(tmp_path / "back" / ONE).keys() == tensors.keys()


def test_half_precision_comes_back_bit_for_bit(folder: Path, tmp_path: Path) -> None:
  tensors = {k: x.astype(np.float16) for k, x in load_file(folder / ONE).items()}
  save_file(tensors, folder / ONE)
  changed(folder, dtype="float16")
  foreign = hf.FORMAT.open(folder)
  params = foreign.params(foreign.model(), lambda path, values: values.astype(np.float32))
  hf.FORMAT.write(tmp_path / "back", Export(foreign.build, foreign.arguments, params, folder))
  back = load_file(tmp_path / "back" / ONE)
  for name, values in tensors.items():
    np.testing.assert_array_equal(back[name], values)


def test_a_damaged_config_is_told(folder: Path) -> None:
  (folder / hf.CONFIG).write_text("{")
  with pytest.raises(UserError, match="config.json cannot be read"):
    hf.FORMAT.open(folder)


def test_every_family_is_found_by_the_type_of_its_config() -> None:
  assert {"bert", "gpt2", "llama", "t5"} <= hf.published().keys()


def test_a_model_without_a_published_form_is_told(tmp_path: Path) -> None:
  def mine() -> None: ...

  with pytest.raises(UserError, match="mine has no form at HuggingFace"):
    hf.FORMAT.write(tmp_path, Export(mine, {}, {}))  # type: ignore[arg-type]


def test_the_begin_of_a_decoder_is_its_padding_where_nothing_else_is_said(tmp_path: Path) -> None:
  pair = {"is_encoder_decoder": True, "pad_token_id": 3}
  for values, defaults, begin in (
    (pair, {}, 3),
    ({**pair, "decoder_start_token_id": 2}, {}, 2),
    ({**pair, "decoder_start_token_id": None}, {}, 3),
    ({"pad_token_id": 3}, {}, None),
    (pair, {"decoder_start_token_id": 4}, 4),
    (pair, {"decoder_start_token_id": None}, None),  # mBART: its user has to say
    ({"is_encoder_decoder": True}, {}, 0),
  ):
    assert hf.special(tmp_path, values, defaults)["begin_id"] == begin, (values, defaults)


def test_special_ids_are_those_of_the_config_its_class_and_its_generation(tmp_path: Path) -> None:
  values = {"pad_token_id": None, "bos_token_id": 7, "eos_token_id": 5}
  found = hf.special(tmp_path, values, {"pad_token_id": 1})
  assert found == {"begin_id": None, "eos_id": 5, "pad_id": 1, "bos_id": 7}
  assert hf.special(tmp_path, {}, {})["pad_id"] is None
  (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 9], "pad_token_id": 4}')
  found = hf.special(tmp_path, values, {"pad_token_id": 1})
  assert found["eos_id"] == (5, 9) and found["pad_id"] == 4


def test_shapes_are_those_of_init() -> None:
  model = gpt2(1, 8, 2, 11, max_length=16)
  batch = {"decoder_input_tokens": np.zeros((1, 8), np.int32)}
  fresh = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sorted(shapes(model).values()) == sorted(x.shape for x in jax.tree.leaves(fresh))
