"""Whole models: a packed document never sees its neighbour, whatever the family."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families.bert import bert
from mtm.families.gpt2 import gpt2
from mtm.families.llama import llama
from mtm.families.t5 import t5
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.prefix import Prefix
from tests.contracts.discovered import parameters

VOCAB, LENGTH, CUT = 40, 16, 7

MODELS = {
  "gpt2": lambda **k: gpt2(2, 16, 2, VOCAB, max_length=32, mlp=24, **k),
  "bert": lambda **k: bert(2, 16, 2, VOCAB, max_length=32, mlp=24, **k),
  "llama": lambda **k: llama(2, 16, 4, 24, VOCAB, kv_heads=2, **k),
  "t5": lambda **k: t5(2, 16, 2, 8, 24, VOCAB, **k),
  "prefix": lambda **k: llama(2, 16, 2, 24, VOCAB, pattern=Causal() | Prefix(), **k),
}
each = pytest.mark.parametrize("name", list(MODELS))


def packed(sides: tuple[str, ...], seed: int = 0) -> dict[str, np.ndarray]:
  """Two documents in each row of each side, and two places of padding."""
  rng = np.random.default_rng(seed)
  batch = {}
  for side in sides:
    ids = rng.integers(2, VOCAB, (2, LENGTH)).astype(np.int32)
    segments = np.repeat([1, 2, 0], [CUT, LENGTH - CUT - 2, 2])[None].repeat(2, 0)
    positions = np.concatenate([np.arange(CUT), np.arange(LENGTH - CUT)])[None].repeat(2, 0)
    batch[f"{side}_input_tokens"] = np.where(segments > 0, ids, 0)
    batch[f"{side}_segment_ids"] = segments.astype(np.int32)
    batch[f"{side}_positions"] = positions.astype(np.int32)
  return batch


def setting(name: str, **fields: Any) -> tuple[Any, Any, dict[str, np.ndarray]]:
  model = MODELS[name](**fields)
  batch = packed(tuple(n.split("_")[0] for n in model.inputs))
  if name == "prefix":
    batch["decoder_causal_attention"] = (batch["decoder_positions"] < 3).astype(np.int32)
  return model, parameters(model.init, batch), batch


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@each
def test_a_packed_document_never_sees_its_neighbour(name: str, dtype: str) -> None:
  """Not a bit of its logits changes with the other document or the padding, on any side."""
  model, params, batch = setting(name, dtype=dtype)
  apply = jax.jit(lambda batch: model.apply(params, batch).logits)
  before = np.asarray(apply(batch))
  out = "decoder_segment_ids" if "decoder_input_tokens" in batch else "encoder_segment_ids"
  sides = [n.removesuffix("_input_tokens") for n in model.inputs]
  for kept in (1, 2):
    for changed in [[side] for side in sides] + [sides]:
      other = dict(batch)
      for side in changed:
        ids, segments = batch[f"{side}_input_tokens"], batch[f"{side}_segment_ids"]
        other[f"{side}_input_tokens"] = np.where(segments == kept, ids, (ids * 7 + 11) % VOCAB)
      after = np.asarray(apply(other))
      mine = batch[out] == kept
      np.testing.assert_array_equal(before[mine], after[mine])
      assert not np.array_equal(before[~mine], after[~mine])


@each
def test_gradients_of_a_document_do_not_come_from_its_neighbour(name: str) -> None:
  """The gradient of one document's logits is the same whatever stands beside it, to the bit."""
  model, params, batch = setting(name)
  out = "decoder_segment_ids" if "decoder_input_tokens" in batch else "encoder_segment_ids"
  weight = (batch[out] == 1).astype(np.float32)[..., None]

  @jax.jit
  def grads(batch: Any) -> Any:
    return jax.grad(lambda p: (model.apply(p, batch).logits * weight).sum())(params)

  other = dict(batch)
  for name_ in model.inputs:
    mine = batch[name_.replace("input_tokens", "segment_ids")] == 1
    other[name_] = np.where(mine, batch[name_], (batch[name_] * 7 + 11) % VOCAB)

  def same(path: Any, a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a, b, err_msg=str(path))

  jax.tree_util.tree_map_with_path(same, grads(batch), grads(other))


@each
def test_scanned_is_unscanned(name: str) -> None:
  model, params, batch = setting(name)
  unscanned = MODELS[name](scan=False)
  a, b = (jax.jit(m.apply)(params, batch).logits for m in (model, unscanned))
  # The same operations, fused otherwise.
  np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@each
def test_bfloat16_computes_near_float32_masters(name: str) -> None:
  model, params, batch = setting(name, dtype="bfloat16")
  grads = jax.eval_shape(jax.grad(lambda p: model.apply(p, batch).logits.sum()), params)
  assert {g.dtype for g in jax.tree.leaves(grads)} == {np.dtype("float32")}
  fresh = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert {p.dtype for p in jax.tree.leaves(fresh)} == {np.dtype("float32")}
  half = jax.jit(model.apply)(params, batch)
  assert half.hidden.dtype == jax.numpy.bfloat16
  apply = jax.jit(MODELS[name]().apply)
  full = apply(params, batch).logits
  # The yardstick is what rounding the weights alone does; activations are rounded about ten times
  # a layer, and errors that are independent add up as the root of their number.
  rounded = jax.tree.map(lambda p: np.asarray(p.astype(jax.numpy.bfloat16), np.float32), params)
  of_weights = np.abs(apply(rounded, batch).logits - full).mean()
  assert 0 < np.abs(half.logits - full).mean() < 10**0.5 * of_weights


def test_a_prefix_is_read_in_both_directions() -> None:
  model, params, batch = setting("prefix")
  apply = jax.jit(lambda batch: model.apply(params, batch).logits)
  before = apply(batch)
  other = {**batch, "decoder_input_tokens": batch["decoder_input_tokens"].copy()}
  other["decoder_input_tokens"][:, 2] += 1  # the last token of the first document's prefix
  changed = np.abs(before - apply(other)).max(axis=(0, 2)) > 0
  np.testing.assert_array_equal(changed[:CUT], np.ones(CUT, bool))
  assert not changed[CUT:].any()
  other["decoder_input_tokens"] = batch["decoder_input_tokens"].copy()
  other["decoder_input_tokens"][:, 5] += 1  # beyond the prefix: the past does not see it
  changed = np.abs(before - apply(other)).max(axis=(0, 2)) > 0
  np.testing.assert_array_equal(np.flatnonzero(changed), [5, 6])


def test_an_encoder_decoder_without_a_source_says_so() -> None:
  model, params, batch = setting("t5")
  cache = model.empty_cache(2, 8, 16)
  with pytest.raises(ValueError, match="needs encoder_input_tokens"):
    model.apply(params, {n: x for n, x in batch.items() if n != "encoder_input_tokens"})
  with pytest.raises(ValueError, match="cannot decode"):
    MODELS["bert"]().empty_cache(1, 8)
  assert cache["source_segments"].shape == (2, 16)


def test_models_are_values_that_jit_can_hash() -> None:
  model = gpt2(1, 8, 2, 11)
  assert hash(model) == hash(model)
  batch = {"decoder_input_tokens": np.zeros((1, 4), np.int32)}
  shapes = jax.jit(lambda key: model.init(key, batch)).eval_shape(jax.random.key(0))
  leaves = jax.tree.leaves(shapes)
  assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves), "a box was left"


def test_a_batch_of_the_wrong_kind_is_told_in_one_sentence() -> None:
  model = bert(1, 8, 2, 11)
  with pytest.raises(UserError) as error:
    model.init(jax.random.key(0), {"decoder_input_tokens": np.zeros((1, 4), np.int32)})
  assert str(error.value) == (
    "the model (Encoder) needs encoder_input_tokens, but the batch has decoder_input_tokens:"
    " take an objective that makes what this model reads"
  )


def test_a_sequence_longer_than_the_model_is_told() -> None:
  model = gpt2(1, 8, 2, 11, max_length=4)
  with pytest.raises(UserError, match="decoder_input_tokens is 5 long .* end at 4"):
    model.init(jax.random.key(0), {"decoder_input_tokens": np.zeros((1, 5), np.int32)})


def test_encoded_is_what_the_encoder_says_of_its_own_tokens() -> None:
  """Whatever the decoder is fed; a decoder alone has none."""
  model, params, batch = setting("t5")
  apply = jax.jit(lambda batch: model.apply(params, batch).encoded)
  states = np.asarray(apply(batch))
  assert states.shape == (2, LENGTH, 16)
  other = {**batch, "decoder_input_tokens": batch["decoder_input_tokens"][:, ::-1]}
  np.testing.assert_array_equal(apply(other), states)
  source = np.where(batch["encoder_positions"] == 3, 5, batch["encoder_input_tokens"])
  assert (np.asarray(apply({**batch, "encoder_input_tokens": source})) != states).any()
  decoder = setting("gpt2")
  assert decoder[0].apply(*decoder[1:]).encoded is None
