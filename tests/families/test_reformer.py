"""Reformer: its sizes, its config's words and what it refuses; logits are in test_recorded.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mtm.errors import UserError
from mtm.families._published import Config, complete
from mtm.families.reformer import HF, Line, reformer
from mtm.interop import hf
from mtm.interop._base import Export
from mtm.interop.safetensors import ONE
from mtm.types import Model
from tests.contracts.discovered import batch_for, parameters
from tests.families import recorded

TINY = {"layers": 2, "embed": 12, "heads": 3, "vocab": 40, "head_dim": 4, "max_length": 24}
ENWIK8 = reformer(
  12, 1024, 8, 258, True, (False, False, True, False), 128, 4096, (128, 512), (256, 768), 65536,
  128, 256, buckets=512,
)  # fmt: skip


@pytest.mark.parametrize(
  ("model", "wanted"),
  [
    # Counted by transformers 5.24's ReformerModelWithLMHead of these sizes, the first of which the
    # paper gives for enwik8, less the bias of `vocab` numbers that it does not read.
    (ENWIK8, 149_182_722),
    (reformer(6, 256, 12, 320, mlp=512, widths=(64, 192)), 5_975_872),
  ],
)
def test_parameter_count_is_the_published_one(model: Model, wanted: int) -> None:
  batch = {"decoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted


def arguments(**more: Any) -> dict[str, Any]:
  config = Config({"vocab_size": 40, "is_decoder": True, **more})
  found = HF.arguments(config)
  config.finish()
  return found


@pytest.mark.parametrize(
  ("kinds", "wanted"),
  [
    (["local", "lsh"] * 3, (False, True)),
    (["lsh"] * 4, (True,)),
    (["local", "local", "lsh", "local"] * 3, (False, False, True, False)),
    (["local", "local", "lsh"], (False, False, True)),
  ],
)
def test_the_period_of_a_config(kinds: list[str], wanted: tuple[bool, ...]) -> None:
  found = arguments(attn_layers=kinds)
  assert (found["layers"], found["hashed"]) == (len(kinds), wanted)
  assert HF.config(complete(reformer, found))["attn_layers"] == kinds


@pytest.mark.parametrize(
  ("more", "name"),
  [
    ({"attn_layers": ["local", "full"]}, "attn_layers"),
    ({"attn_layers": ["lsh"], "num_hidden_layers": 3}, "num_hidden_layers = 3"),
    ({"local_num_chunks_before": 2}, "local_num_chunks_before = 2"),
    ({"local_attention_probs_dropout_prob": 0.3}, "local_attention_probs_dropout_prob = 0.3"),
    ({"axial_pos_shape": [4, 4, 4]}, "axial_pos_shape"),
    ({"tie_word_embeddings": True}, "tie_word_embeddings"),
    ({"hidden_act": "mish"}, "hidden_act"),
  ],
)
def test_what_it_cannot_honour_is_refused_by_name(more: dict[str, Any], name: str) -> None:
  with pytest.raises(UserError, match=name):
    arguments(**more)


@pytest.mark.parametrize(
  ("wrong", "name"),
  [
    ({"layers": 3}, "no multiple of the 2"),
    ({"hashed": ()}, "no multiple of the 0"),
    ({"neighbours": (1, 1)}, "a decoder sees nothing"),
    ({"grid": (4, 5)}, "holds 20 positions and max_length is 24"),
  ],
)
def test_wrong_arguments_are_told(wrong: dict[str, Any], name: str) -> None:
  with pytest.raises(UserError, match=name):
    reformer(**{**TINY, "grid": (4, 6), **wrong})


def test_a_key_that_counts_once_has_no_published_form() -> None:
  with pytest.raises(UserError, match="once = True cannot be written"):
    HF.config(complete(reformer, {**TINY, "grid": (4, 6), "once": True}))


def test_a_cache_is_as_long_as_a_chunk_and_a_longer_chunk_fits_the_parameters() -> None:
  """Full attention for rows that would be hashed: what decoding longer texts takes."""
  short, long = (reformer(**TINY, grid=(4, 6), lsh_chunk=size, buckets=4) for size in (4, 24))
  batch = batch_for(short, length=12)
  params = parameters(short.init, batch)
  with pytest.raises(UserError, match="LSH chunks of at least 12"):
    short.empty_cache(2, 12)
  whole = jax.jit(long.apply)(params, batch).logits
  cache = long.empty_cache(2, 12)
  feed = jax.jit(lambda cache, batch: long.apply(params, batch, cache=cache))
  for start, end in ((0, 10), (10, 11), (11, 12)):
    part = {
      "decoder_input_tokens": batch["decoder_input_tokens"][:, start:end],
      "decoder_positions": np.arange(start, end)[None].repeat(2, 0),
      "decoder_cache_start": np.int32(start),
      "decoder_cache_positions": np.arange(12)[None],
    }
    output = feed(cache, part)
    cache = output.cache
    np.testing.assert_allclose(output.logits, whole[:, start:end], rtol=2e-5, atol=2e-5)


def test_the_line_of_an_axis_lies_in_the_grid() -> None:
  table = np.arange(6.0).reshape(3, 2)
  assert Line(1, 3).save(table)[0].shape == (1, 3, 1, 2)
  np.testing.assert_array_equal(Line(1, 3).load(*Line(1, 3).save(table))[0], table)


@pytest.mark.parametrize("value", [0.0, None], ids=["zero", "copy"])
def test_a_bias_that_nobody_reads_is_passed_over(value: float | None, tmp_path: Path) -> None:
  """In new files it is 0; in old ones it repeats the one that is read, and goes back."""
  folder = recorded.directory("reformer_lsh", tmp_path / "theirs")
  tensors = load_file(folder / ONE)
  bias = tensors["lm_head.decoder.bias"]
  save_file(
    {**tensors, "lm_head.bias": bias.copy() if value is None else bias * value}, folder / ONE
  )
  foreign = hf.FORMAT.open(folder)
  params = foreign.params(foreign.model(), lambda path, values: values)
  kept = tmp_path / "kept"
  kept.mkdir()
  (kept / hf.CONFIG).write_text((folder / hf.CONFIG).read_text())
  (kept / "layout.json").write_text(json.dumps(foreign.layout))
  hf.FORMAT.write(tmp_path / "back", Export(foreign.build, foreign.arguments, params, kept))
  np.testing.assert_array_equal(load_file(tmp_path / "back" / ONE)["lm_head.bias"], bias)
