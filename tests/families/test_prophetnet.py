"""ProphetNet: its sizes, streams and refusals; test_recorded.py compares what it computes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families._published import Config, complete
from mtm.families.prophetnet import HF, LastFirst, prophetnet
from mtm.interop import hf
from mtm.interop._base import shapes
from tests.contracts.discovered import batch_for, parameters
from tests.families import recorded

TINY = {"layers": 2, "embed": 12, "heads": 3, "vocab": 40, "mlp": 20, "max_length": 16, "ngram": 3}
# What a published config says, but for its sizes, generation and ids.
PUBLISHED = {
  "vocab_size": 30522, "hidden_size": 1024, "num_encoder_layers": 12, "num_decoder_layers": 12,
  "num_hidden_layers": 12, "max_position_embeddings": 512, "ngram": 2, "num_buckets": 32,
  "relative_max_distance": 128, "activation_function": "gelu", "init_std": 0.02, "pad_token_id": 0,
  "disable_ngram_loss": False, "eps": 0.1, "encoder_layerdrop": 0.1, "decoder_layerdrop": 0.1,
  "encoder_max_position_embeddings": 513, "decoder_max_position_embeddings": 514,
  "add_cross_attention": True, "is_encoder_decoder": True,
}  # fmt: skip
LENGTH = 6


def batch() -> dict[str, np.ndarray]:
  return batch_for(prophetnet(**TINY), length=LENGTH)


def test_parameter_count_is_the_published_one() -> None:
  """transformers' ProphetNetForConditionalGeneration of the published config."""
  model = prophetnet(12, 1024, 16, 4096, 30522)
  assert sum(map(math.prod, shapes(model).values())) == 391_321_600


@pytest.mark.parametrize("futures", [0, 4])
def test_streams_that_there_are_none_of_are_refused(futures: int) -> None:
  with pytest.raises(UserError, match=f"futures = {futures} of ngram = 3 .* from 1 to 3"):
    prophetnet(**TINY, futures=futures)


def test_the_first_stream_is_what_it_is_alone() -> None:
  params = parameters(prophetnet(**TINY).init, batch())
  one, all_three = (
    jax.jit(prophetnet(**TINY, futures=n).apply)(params, batch()).logits for n in (1, 3)
  )
  assert one.shape == (2, LENGTH, 40) and all_three.shape == (2, 3 * LENGTH, 40)
  np.testing.assert_allclose(all_three[:, :LENGTH], one, rtol=1e-4, atol=1e-5)


def test_logits_do_not_know_the_future() -> None:
  """Stream s predicts the token after its place without the s - 1 tokens before it."""
  model = prophetnet(**TINY, futures=3)
  params = parameters(model.init, batch())
  apply = jax.jit(lambda batch: model.apply(params, batch).logits.reshape(2, 3, LENGTH, 40))
  before = np.asarray(apply(batch()))
  for place in range(1, LENGTH):
    other = batch()
    other["decoder_input_tokens"][:, place] = 3 + other["decoder_input_tokens"][:, place] % 30
    after = np.asarray(apply(other))
    changed = np.abs(after - before).max(axis=(0, 3)) > 0
    wanted = [[at >= place + stream for at in range(LENGTH)] for stream in range(3)]
    np.testing.assert_array_equal(changed, wanted)


def test_packed_documents_are_what_they_are_alone() -> None:
  model, whole = prophetnet(**TINY, futures=2), batch_for(prophetnet(**TINY), rows=1, length=7)
  cuts = {"encoder": [(0, 4), (4, 8)], "decoder": [(0, 3), (3, 6)]}  # padding follows
  for side, places in cuts.items():
    segments = np.zeros_like(whole[f"{side}_input_tokens"])
    positions = np.zeros_like(segments)
    for number, (start, end) in enumerate(places, 1):
      segments[:, start:end], positions[:, start:end] = number, np.arange(end - start)
    whole |= {f"{side}_segment_ids": segments, f"{side}_positions": positions}
  params = parameters(model.init, whole)
  together = jax.jit(model.apply)(params, whole).logits.reshape(1, 2, 7, 40)
  for i in range(2):
    own = {
      f"{side}_input_tokens": whole[f"{side}_input_tokens"][:, slice(*places[i])]
      for side, places in cuts.items()
    }
    alone = jax.jit(model.apply)(params, own).logits.reshape(1, 2, 3, 40)
    here = together[:, :, slice(*cuts["decoder"][i])]
    np.testing.assert_allclose(here, alone, rtol=1e-4, atol=1e-5)


def test_vectors_of_streams_are_turned_round() -> None:
  theirs = np.arange(6, dtype=np.float32).reshape(3, 2)  # of the second stream, third, first
  (ours,) = LastFirst().load(theirs)
  np.testing.assert_array_equal(ours, [[4, 5], [0, 1], [2, 3]])
  np.testing.assert_array_equal(LastFirst().save(ours)[0], theirs)


def test_the_published_config_is_read() -> None:
  theirs = Config(PUBLISHED)
  found = HF.arguments(theirs)
  theirs.finish()
  assert (found["layers"], found["embed"], found["heads"], found["mlp"]) == (12, 1024, 16, 4096)
  assert (found["max_length"], found["ngram"]) == (510, 2)
  assert HF.config(complete(prophetnet, found))["max_position_embeddings"] == 512


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("pad_token_id", 1), ("add_cross_attention", False), ("tie_word_embeddings", False),
    ("num_hidden_layers", 7), ("activation_function", "mish"),
  ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused(name: str, value: Any) -> None:
  with pytest.raises(UserError, match=f"has {name} = {value!r}, which mtm cannot honour"):
    HF.arguments(Config({**PUBLISHED, name: value}))


def test_a_decoder_alone_is_refused() -> None:
  told = {"model_type": "prophetnet", "architectures": ["ProphetNetForCausalLM"]}
  with pytest.raises(UserError, match="ProphetNetForCausalLM, and mtm reads of prophetnet"):
    hf.family_of(told, "config.json")


def test_all_streams_of_a_checkpoint_can_run(tmp_path: Path) -> None:
  foreign = hf.FORMAT.open(recorded.directory("prophetnet_three", tmp_path / "theirs"))
  params = foreign.params(foreign.model(), lambda path, values: values)
  logits = jax.jit(foreign.model(futures=3).apply)(
    params, recorded.batch("prophetnet_three")
  ).logits
  assert logits.shape[1] == 3 * recorded.arrays("prophetnet_three")["mask"].shape[1]
