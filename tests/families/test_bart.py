"""BART: its published sizes and what it refuses; test_recorded.py compares what it computes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mtm.errors import UserError
from mtm.families.bart import bart
from mtm.interop import hf
from mtm.interop._base import shapes
from mtm.interop.safetensors import ONE
from tests.families import recorded


def original(folder: Path, changes: dict[str, np.ndarray], **fields: Any) -> Path:
  """The recorded checkpoint with some tensors and settings changed."""
  recorded.directory("bart", folder)
  save_file({**load_file(folder / ONE), **changes}, folder / ONE)
  config = json.loads((folder / hf.CONFIG).read_text())
  (folder / hf.CONFIG).write_text(json.dumps({**config, **fields}))
  return folder


@pytest.mark.parametrize(
  ("model", "wanted"),
  [
    (bart(6, 768, 12, 3072, 50265), 139_420_416),  # facebook/bart-base
    (bart(12, 1024, 16, 4096, 50265), 406_291_456),  # facebook/bart-large
  ],
)
def test_parameter_count_is_the_published_one(model: Any, wanted: int) -> None:
  assert sum(map(math.prod, shapes(model).values())) == wanted


def test_a_bias_of_the_logits_is_refused(tmp_path: Path) -> None:
  bias = np.zeros((1, 37), np.float32)
  bias[0, 5] = 1e-3
  foreign = hf.FORMAT.open(original(tmp_path / "theirs", {"final_logits_bias": bias}))
  with pytest.raises(UserError, match="final_logits_bias"):
    foreign.params(foreign.model(), lambda path, values: values)


@pytest.mark.parametrize(
  "field",
  [
    {"normalize_before": True},
    {"add_final_layer_norm": True},
    {"normalize_embedding": False},
    {"static_position_embeddings": True},
    {"add_bias_logits": True},
    {"tie_word_embeddings": False},
    {"num_hidden_layers": 7},
    {"encoder_layerdrop": 0.1},
  ],
)
def test_another_variant_is_refused(field: dict[str, Any], tmp_path: Path) -> None:
  (name,) = field
  with pytest.raises(UserError, match=name):
    hf.FORMAT.open(original(tmp_path / "theirs", {}, **field))


def test_what_old_configs_say_of_bart_is_understood(tmp_path: Path) -> None:
  """The fields of facebook/bart-large-cnn that transformers no longer reads."""
  old = {
    "add_bias_logits": False, "add_final_layer_norm": False, "classif_dropout": 0.0,
    "extra_pos_embeddings": 2, "force_bos_token_to_be_generated": True, "normalize_before": False,
    "normalize_embedding": True, "num_hidden_layers": 2, "save_step": 58, "_num_labels": 3,
    "static_position_embeddings": False,
  }  # fmt: skip
  foreign = hf.FORMAT.open(original(tmp_path / "theirs", {}, **old))
  assert foreign.begin_id == 2
  foreign.params(foreign.model(), lambda path, values: values)
