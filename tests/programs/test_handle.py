"""One handle for ours, HuggingFace's and T5X's."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.special

import mtm
from mtm.decoding.beam import Beam
from mtm.errors import UserError
from mtm.programs import published
from mtm.programs.handle import load
from mtm.sharding.mesh import mesh
from tests.families import recorded, t5x_names


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5_1_0"])
def test_logits_are_those_of_the_original(name: str, tmp_path: Path) -> None:
  handle = mtm.load(recorded.directory(name, tmp_path / "hf"), mesh(data=4, fsdp=2))
  batch = {k: np.repeat(x, 8, axis=0) for k, x in recorded.batch(name).items()}
  arrays = recorded.arrays(name)
  real = arrays["mask"] > 0
  # float32 with other orders of summation.
  logits = np.asarray(handle.logits(batch))[::8]
  np.testing.assert_allclose(logits[real], arrays["logits"][real], rtol=1e-4, atol=1e-4)
  assert handle.config["dropout"] == 0.1


def test_t5x_generates_what_t5x_generated() -> None:
  arrays = t5x_names.load("t5_1_1")
  handle = load(t5x_names.checkpoint("orbax", "t5_1_1"))
  rows = [[int(i) for i in row if i] for row in arrays["in/encoder_input_tokens"]]
  found = handle.generate(rows, max_length=9)
  for ours, theirs in zip(found, arrays["decode/greedy"].reshape(len(rows), -1), strict=True):
    assert ours == list(itertools.takewhile(lambda i: i != 1, theirs.tolist()))
  many = handle.generate(rows, max_length=9, policy=Beam(4, 0.6))
  assert all(len(beams) == 4 for beams in many)


def test_scores_are_log_likelihoods(tmp_path: Path) -> None:
  arrays = t5x_names.load("t5_1_1")
  handle = load(t5x_names.checkpoint("native", "t5_1_1"))
  inputs, targets = (
    [[int(i) for i in row if i] for row in arrays[f"in/{side}"]]
    for side in ("encoder_input_tokens", "decoder_target_tokens")
  )
  np.testing.assert_allclose(handle.score(inputs, targets), arrays["score"], rtol=1e-5)


def test_a_decoder_without_a_begin_scores_its_own_line(tmp_path: Path) -> None:
  """Each target token by what `logits` says after all that stands before it."""
  handle = load(recorded.directory("gpt2", tmp_path / "hf"))
  line, known = [5, 9, 7, 20, 8], 2
  logits = np.asarray(handle.logits({"decoder_input_tokens": np.array([line] * 8)})[0], np.float64)
  told = scipy.special.log_softmax(logits, axis=-1)
  wanted = sum(told[i - 1, line[i]] for i in range(known, len(line)))
  (score,) = handle.score([line[:known]], [line[known:]])
  assert score == pytest.approx(wanted, rel=1e-5)  # float32
  with pytest.raises(UserError, match="an input is empty"):
    handle.score([[]], [line])


def test_a_pair_is_scored_after_its_own_begin(tmp_path: Path) -> None:
  handle = load(recorded.directory("bart", tmp_path / "hf"))
  assert handle.begin_id == 2
  source, target = [0, 5, 9, 2], [7, 20, 8]
  batch = {
    "encoder_input_tokens": np.array([source] * 8),
    "encoder_segment_ids": np.ones((8, 4), np.int32),
    "decoder_input_tokens": np.array([[2, *target[:-1]]] * 8),
  }
  told = scipy.special.log_softmax(np.asarray(handle.logits(batch)[0], np.float64), axis=-1)
  (score,) = handle.score([source], [target])
  assert score == pytest.approx(sum(told[i, t] for i, t in enumerate(target)), rel=1e-5)


def test_ours_is_loaded_as_it_was_written(tmp_path: Path) -> None:
  source = recorded.directory("llama_grouped", tmp_path / "hf")
  theirs = load(source)
  opened = published.open_checkpoint(source)
  published.write(opened, theirs.params, "mtm", tmp_path / "ours")
  ours = load(tmp_path / "ours")
  assert (ours.begin_id, ours.eos_id) == (theirs.begin_id, theirs.eos_id) == (None, 1)
  prompts = [[5, 6, 7], [9]]
  assert ours.generate(prompts, 5) == theirs.generate(prompts, 5)


def test_encode_gives_a_state_a_token(tmp_path: Path) -> None:
  handle = load(recorded.directory("bert", tmp_path / "hf"), dtype="bfloat16")
  one, two = handle.encode([[5, 6, 7], [5]])
  assert one.shape == (3, 12) and two.shape == (1, 12)
  with pytest.raises(UserError, match="an encoder-decoder encodes a pair"):
    load(t5x_names.checkpoint("native", "t5_1_1")).encode([[5]])


def test_text_needs_a_vocabulary() -> None:
  handle = load(t5x_names.checkpoint("native", "t5_1_1"))
  with pytest.raises(UserError, match="has no vocabulary: give token ids"):
    handle.generate(["text"])


def test_no_checkpoint_is_told(tmp_path: Path) -> None:
  with pytest.raises(UserError, match="holds no mtm checkpoint"):
    load(tmp_path)
