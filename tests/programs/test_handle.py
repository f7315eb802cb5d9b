"""One handle for ours, HuggingFace's and T5X's."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.special
import tokenizers as tk

import mtm
from mtm.decoding.beam import Beam
from mtm.errors import UserError
from mtm.programs import published
from mtm.programs.handle import load
from mtm.sharding.mesh import mesh
from tests.families import recorded, t5x_names


@pytest.mark.parametrize(
  "name", ["gpt2", *(pytest.param(n, marks=pytest.mark.slow) for n in ("bert", "t5_1_0"))]
)
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


def test_encode_gives_the_states_of_an_encoder_beside_a_decoder() -> None:
  arrays = t5x_names.load("t5_1_1")
  handle = load(t5x_names.checkpoint("native", "t5_1_1"))
  rows = arrays["in/encoder_input_tokens"]
  found = handle.encode(list(rows))
  assert len(found) == len(rows)
  for states, ids, wanted in zip(found, rows, arrays["encoded"], strict=True):
    real = int((ids > 0).sum())
    assert states.shape == (real, 16)
    np.testing.assert_allclose(states, wanted[:real], atol=1e-5)  # float32


@pytest.mark.parametrize(
  "name",
  ["roberta", "bart", *(pytest.param(n, marks=pytest.mark.slow) for n in ("mpnet", "mbart"))],
)
def test_padding_is_told_by_the_checkpoints_own_id(name: str, tmp_path: Path) -> None:
  """A batch of plain ids gives what the original gave with its attention mask."""
  arrays, batch = recorded.arrays(name), recorded.batch(name)
  handle = load(recorded.directory(name, tmp_path / "hf"))
  mask = batch.pop("encoder_segment_ids")
  assert handle.pad_id == 1
  batch["encoder_input_tokens"] = np.where(mask > 0, batch["encoder_input_tokens"], handle.pad_id)
  real = arrays["mask"] > 0
  logits = np.asarray(handle.logits(batch))
  # float32 with other orders of summation.
  np.testing.assert_allclose(logits[real], arrays["logits"][real], rtol=1e-4, atol=1e-4)
  wrong = handle.logits({**batch, "encoder_segment_ids": np.ones_like(mask)})
  assert np.abs(np.asarray(wrong) - logits)[real].max() > 1e-3


@pytest.mark.parametrize("name", ["roberta", "bart", "gpt2"])
def test_padding_around_ids_stands_for_nothing(name: str, tmp_path: Path) -> None:
  handle = load(recorded.directory(name, tmp_path / "hf"))
  pad, rows = handle.pad_id, [[0, 5, 9, 7], [6, 0]]
  if name == "gpt2":  # has no id for padding: its 0 is a token like others
    assert pad is None
    longer = handle.generate([[5, 9], [5, 9, 0]], 3)
    assert longer[0] != longer[1] or handle.score([[5]], [[9]]) != handle.score([[5]], [[9, 0]])
    return
  padded = np.array([[0, 5, 9, 7, pad, pad], [6, 0, pad, pad, pad, pad]])
  for a, b in zip(handle.encode(rows), handle.encode(padded), strict=True):
    np.testing.assert_array_equal(a, b)
  if name == "bart":
    assert handle.generate(rows, 4) == handle.generate(padded, 4)
    assert handle.score(rows, rows) == handle.score(padded, padded)


def test_any_of_the_checkpoints_ends_ends(tmp_path: Path) -> None:
  folder = recorded.directory("gpt2", tmp_path / "hf")
  endless = dataclasses.replace(load(folder), eos_id=None).generate([[5, 6, 7]], 6)[0]
  (folder / "generation_config.json").write_text(
    json.dumps({"eos_token_id": [endless[4], endless[2]]})
  )
  handle = load(folder)
  assert handle.eos_id == (endless[4], endless[2])
  first = min(endless.index(endless[4]), endless.index(endless[2]))
  assert handle.generate([[5, 6, 7]], 6) == [endless[:first]]


def test_an_mbart_begins_with_a_language_that_somebody_names(tmp_path: Path) -> None:
  folder = recorded.directory("mbart", tmp_path / "hf")
  config = json.loads((folder / "config.json").read_text())
  del config["decoder_start_token_id"]
  (folder / "config.json").write_text(json.dumps(config))
  handle = load(folder)
  assert handle.begin_id is None
  for ask in (lambda: handle.generate([[5, 6]]), lambda: handle.score([[5, 6]], [[7]])):
    with pytest.raises(UserError, match="decoder_start_token_id.*begin_id.*language"):
      ask()
  told, other = load(folder, begin_id=9), load(folder, begin_id=8)
  assert told.score([[5, 6]], [[7, 8]]) != other.score([[5, 6]], [[7, 8]])


def test_rows_of_any_number_on_any_mesh(tmp_path: Path) -> None:
  handle = load(
    recorded.directory("gpt2", tmp_path / "hf"), mesh(data=3, devices=jax.devices()[:3])
  )
  assert handle.batch_size == 9
  ids = [[5, 6, 7], [8, 9, 10], [1, 2, 3], [4, 5, 6]]
  logits = np.asarray(handle.logits({"decoder_input_tokens": ids}))
  assert logits.shape[:2] == (4, 3)
  alone = np.asarray(handle.logits({"decoder_input_tokens": ids[3:]}))
  np.testing.assert_allclose(alone[0], logits[3], atol=1e-5)  # float32


def test_what_is_no_input_is_told(tmp_path: Path) -> None:
  decoder = load(recorded.directory("gpt2", tmp_path / "gpt2"))
  with pytest.raises(UserError, match=r"'text' is one text: give a list of texts, \['text'\]"):
    decoder.generate("text")
  with pytest.raises(UserError, match="2 inputs and 1 targets: give one for each"):
    decoder.score([[5], [6]], [[7]])
  with pytest.raises(UserError, match="an input holds the id 99, and the model knows 0 to"):
    decoder.generate([[5, 99]])
  with pytest.raises(UserError, match="decoder_input_tokens holds the id -1"):
    decoder.logits({"decoder_input_tokens": [[5, -1]]})
  with pytest.raises(UserError, match="neither a text nor a list of token ids"):
    decoder.encode([["a", "b"]])
  with pytest.raises(UserError, match="an input is empty, and nothing stands before it"):
    decoder.generate([[]])
  encoder = load(recorded.directory("bert", tmp_path / "bert"))
  with pytest.raises(UserError, match="an Encoder alone generates nothing: take .* a decoder"):
    encoder.generate([[5]])
  with pytest.raises(UserError, match="an Encoder alone gives targets no likelihood"):
    encoder.score([[5]], [[6]])


WORDS = ["<unk>", "<pad>", "</s>", "<s>", "a", "b", "c", "d"]


@pytest.mark.parametrize(
  ("name", "frame"),
  [
    ("t5_1_0", ("", "</s>")),
    ("llama", ("<s>", "")),
    ("bart", ("<s>", "</s>")),
    ("bert", ("<s>", "</s>")),
  ],
)
def test_texts_are_read_as_the_originals_tokenizer_frames_them(
  name: str, frame: tuple[str, str], tmp_path: Path
) -> None:
  folder = recorded.directory(name, tmp_path / "hf")
  ids = {word: i for i, word in enumerate(WORDS)}
  backend = tk.Tokenizer(tk.models.WordLevel(ids, "<unk>"))
  backend.pre_tokenizer = tk.pre_tokenizers.Whitespace()
  backend.add_special_tokens(WORDS[:4])
  backend.post_processor = tk.processors.TemplateProcessing(
    single=[x for x in (frame[0], "$A", frame[1]) if x],
    special_tokens=[(x, ids[x]) for x in frame if x],
  )
  backend.save(str(folder / "tokenizer.json"))
  handle = load(folder)
  before, after = ([ids[x]] if x else [] for x in frame)
  framed = [*before, 4, 5, *after]
  (states,) = handle.encode(["a b"])
  np.testing.assert_array_equal(states, handle.encode([framed])[0])
  if name == "bert":
    return
  target = [*before, 6, 7, *after] if name != "llama" else [6, 7]  # goes on in the same line
  assert handle.score(["a b"], ["c d"]) == handle.score([framed], [target])
  plain = dataclasses.replace(handle, vocabulary=None)
  told = plain.generate([framed], 5)[0]
  text = handle.vocabulary.decode(told)
  assert handle.generate(["a b"], 5) == [text]
  stop = text.strip()[:1]
  (short,) = handle.generate(["a b"], 5, until=["", stop])
  assert text.startswith(short) and stop in short


def test_text_needs_a_vocabulary() -> None:
  handle = load(t5x_names.checkpoint("native", "t5_1_1"))
  with pytest.raises(UserError, match="has no vocabulary: give token ids"):
    handle.generate(["text"])


def test_no_checkpoint_is_told(tmp_path: Path) -> None:
  with pytest.raises(UserError, match="holds no mtm checkpoint"):
    load(tmp_path)
