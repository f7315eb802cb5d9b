"""Mixtral: its published sizes, its checkpoints with experts together, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mtm.errors import UserError
from mtm.families._published import Config
from mtm.families.mixtral import HF, mixtral
from mtm.interop import hf, tree
from mtm.interop._base import Export
from mtm.interop.safetensors import ONE
from tests.families import recorded
from tests.families.test_switch import count


@pytest.mark.parametrize(("name", "wanted"), [("8x7B", 46_702_792_704), ("8x22B", 140_630_071_296)])
def test_a_published_size_has_the_parameters_of_the_released_one(name: str, wanted: int) -> None:
  assert count(f"mixtral/{name}") == wanted


def test_experts_in_two_tensors_are_read_and_written_back(tmp_path: Path) -> None:
  """As transformers 5 holds them in memory, and saves them where it is told to."""
  folder = recorded.directory("mixtral", tmp_path / "theirs")
  apart = hf.FORMAT.open(folder)
  params = apart.params(apart.model(), lambda path, values: values)
  (table,) = HF.others
  tensors = dict(tree.write(params, table(apart.arguments)))
  assert tensors["model.layers.1.mlp.experts.gate_up_proj"].shape == (4, 40, 12)
  save_file(tensors, folder / ONE)
  foreign = hf.FORMAT.open(folder)
  again = foreign.params(foreign.model(), lambda path, values: values)
  jax.tree.map(np.testing.assert_array_equal, params, again)

  kept = tmp_path / "kept"
  kept.mkdir()
  (kept / hf.CONFIG).write_text((folder / hf.CONFIG).read_text())
  (kept / "layout.json").write_text(json.dumps(foreign.layout))
  hf.FORMAT.write(tmp_path / "back", Export(foreign.build, foreign.arguments, again, kept))
  back = load_file(tmp_path / "back" / ONE)
  assert back.keys() == tensors.keys()
  for name, values in tensors.items():
    np.testing.assert_array_equal(back[name], values, err_msg=name)


def test_what_theirs_does_otherwise_is_refused_by_name() -> None:
  with pytest.raises(UserError, match="router_jitter_noise = 0.1, which mtm cannot honour"):
    HF.arguments(Config({"vocab_size": 40, "router_jitter_noise": 0.1}))
  with pytest.raises(UserError, match="window of at least 1"):
    mixtral(2, 16, 4, 24, 40, window=0)


def test_a_silent_config_is_what_their_class_makes_of_it() -> None:
  told = HF.arguments(Config({"vocab_size": 40}))
  assert (told["heads"], told["kv_heads"], told["mlp"]) == (32, 8, 14336)
  assert (told["rope_base"], told["epsilon"], told["window"]) == (1e6, 1e-5, None)
  null = HF.arguments(Config({"vocab_size": 40, "num_key_value_heads": None}))
  assert null["kv_heads"] == 32
