"""Reformer against `transformers`."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from mtm import cli  # noqa: E402
from mtm.decoding.greedy import Greedy  # noqa: E402
from mtm.parts.reversible import ReversibleStack  # noqa: E402
from tests.parity import harness  # noqa: E402

pytestmark = pytest.mark.parity

LENGTH = 24


def model(kinds: list[str], causal: bool = True, **fields: Any) -> Any:
  """In training mode without dropout: their backward pass, which recomputes, runs in no other.
  There a row must fill the grid of positions."""
  sizes = {
    "vocab_size": 37, "hidden_size": 12, "num_attention_heads": 3, "attention_head_size": 4,
    "feed_forward_size": 20, "axial_pos_shape": [4, 6], "axial_pos_embds_dim": [4, 8],
    "max_position_embeddings": LENGTH, "local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4,
    "num_buckets": 4, "hidden_dropout_prob": 0.0, "local_attention_probs_dropout_prob": 0.0,
    "lsh_attention_probs_dropout_prob": 0.0, "layer_norm_eps": 1e-6,
  }  # fmt: skip
  config = transformers.ReformerConfig(
    attn_layers=kinds, is_decoder=causal, use_cache=False, **{**sizes, **fields}
  )
  build = transformers.ReformerModelWithLMHead if causal else transformers.ReformerForMaskedLM
  made = build(config).train()
  made.lm_head.bias = None  # nobody reads it
  for layer in made.reformer.encoder.layers:
    if hasattr(layer.attention.self_attention, "_hash_vectors"):
      turn_as_we_do(layer.attention.self_attention)
  made.eval = made.train
  return made


def turn_as_we_do(attention: Any) -> None:
  """Their rotations become ours; all else of their hashing stays."""
  original = attention._hash_vectors

  def turns(shape: tuple[int, ...], **_: Any) -> Any:
    key = jax.random.key(attention.hash_seed or 0)
    return torch.as_tensor(np.array(jax.random.normal(key, tuple(shape))))

  def hashed(self: Any, *args: Any, **fields: Any) -> Any:
    with mock.patch.object(torch, "randn", turns):
      return original(*args, **fields)

  attention._hash_vectors = types.MethodType(hashed, attention)


def inputs(side: str, lengths: tuple[int, ...], length: int = LENGTH) -> Callable[[], Any]:
  """Rows of these lengths, padded on the right."""

  def make() -> harness.Inputs:
    rng = np.random.default_rng(0)
    mask = (np.arange(length)[None] < np.array(lengths)[:, None]).astype(np.int64)
    tokens = np.where(mask > 0, rng.integers(4, 37, mask.shape), 0)
    batch = {f"{side}_input_tokens": tokens, f"{side}_segment_ids": mask}
    return batch, {"input_ids": tokens, "attention_mask": mask}, mask

  return make


ROWS = {side: inputs(side, (24, 17, 11)) for side in ("decoder", "encoder")}


def case(side: str, kinds: list[str], **fields: Any) -> harness.Case:
  # Theirs tells one of two streams: see below.
  make = functools.partial(model, kinds, side == "decoder", **fields)
  return harness.Case(make, ROWS[side], states=False)


CASES = {
  "reformer_local": case("decoder", ["local", "local"]),
  "reformer_lsh": case("decoder", ["lsh", "lsh"], num_hashes=3, hash_seed=5),
  "reformer_mixed": case(
    "decoder", ["local", "lsh"] * 2, num_buckets=[2, 4], num_hashes=2, lsh_attn_chunk_length=6,
    lsh_num_chunks_before=2, hidden_act="gelu",
  ),
  "reformer_masked": case(
    "encoder", ["local", "lsh", "lsh"], num_hashes=2, local_num_chunks_after=1,
    lsh_num_chunks_after=1, axial_pos_embds=False, local_attn_chunk_length=8,
  ),
  "reformer_masked_auto": case(
    "encoder", ["lsh", "local"], num_buckets=None, lsh_attn_chunk_length=2,
    local_attn_chunk_length=12,
  ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)


def opened(case: harness.Case, folder: Path) -> tuple[Any, Any, Any]:
  """Theirs as it is in use, ours and its parameters."""
  torch.manual_seed(0)
  theirs = case.make()
  harness.saved(theirs, folder)
  return type(theirs).eval(theirs), *harness.opened(folder)


@pytest.mark.parametrize(
  "length", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 11, 13, 22))]
)
@pytest.mark.parametrize("name", list(CASES))
def test_rows_that_fill_no_chunks_are_padded_as_theirs(
  name: str, length: int, tmp_path: Path
) -> None:
  theirs, ours, params = opened(CASES[name], tmp_path)
  side = ours.inputs[0].partition("_")[0]
  batch, told, mask = inputs(side, (length, length - 2, 1), length)()
  out = harness.called(theirs, told).logits.detach().numpy()
  logits = np.asarray(jax.jit(ours.apply)(params, batch).logits)
  if length == 5:
    # Theirs pads these for the local layers and then hashes them too, ours attends in full. That is
    # the same but for a token that meets itself alone, and twice: theirs rounds its shares.
    mask[:, 0] = 0
  harness.close(logits[mask > 0], out[mask > 0], "logits")


@pytest.mark.parametrize("name", list(CASES))
def test_the_second_stream_is_what_theirs_calls_hidden_states(name: str, tmp_path: Path) -> None:
  theirs, ours, params = opened(CASES[name], tmp_path)
  batch, told, mask = CASES[name].inputs()
  found: list[Any] = []

  def watch(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    stack = context.module
    if isinstance(stack, ReversibleStack) and context.method_name == "__call__" and not found:
      x, around = jnp.concatenate([args[0], args[0]], -1), args[1]
      found.append(args[0])
      for weights in stack.prepare(stack.variables["params"])["layers"]:
        for index, block in enumerate(stack.period):
          own = {"params": weights[f"period_{index}"]}
          x, _ = block.clone(parent=None).apply(own, x, around)
          found.append(jnp.split(x, 2, -1)[1])
    return call(*args, **kwargs)

  with nn.intercept_methods(watch):
    ours.apply(params, batch)
  states = harness.called(theirs, told, output_hidden_states=True).hidden_states
  harness.check_states(found, [x.detach().numpy() for x in states], mask > 0, name)


def test_greedy_tokens_are_theirs_within_a_chunk(tmp_path: Path) -> None:
  """Ours with a cache, theirs with the whole text again for each token."""
  made = case("decoder", ["local", "lsh"], lsh_attn_chunk_length=24, num_hashes=2)
  theirs, ours, params = opened(made, tmp_path)
  batch, told, _ = inputs("decoder", (7, 7, 7), 7)()
  wanted = harness.their_tokens(
    theirs, {"input_ids": told["input_ids"]}, 8, harness.NO_END, num_beams=1, use_cache=False
  )
  assert len({token for row in wanted for token in row}) > 3
  assert harness.our_tokens(ours, params, batch, Greedy(), 8, harness.NO_END) == wanted


@pytest.mark.parametrize("name", list(CASES))
def test_a_conversion_compares_with_theirs_that_hashes_as_ours(
  name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  harness.saved(CASES[name].make(), tmp_path / "theirs")
  command = ["convert", str(tmp_path / "theirs"), str(tmp_path / "ours"), "--tolerance=1e-4"]
  assert cli.main(command) == 0
  told = capsys.readouterr().out
  assert "beside transformers" in told and "at 100.00 % of places" in told
