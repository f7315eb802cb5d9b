"""Every family is a `mtm.types.Model`: pure functions, named axes, a cache that changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from mtm import axes
from mtm.errors import UserError
from mtm.types import Model
from tests.contracts.discovered import batch_for, examples, only_inputs, parameters

FAMILIES = examples("mtm.families")
each = pytest.mark.parametrize("build", FAMILIES)
Build = Callable[..., Model]


@each
def test_parameters_are_float32_and_their_axes_are_known(build: Build) -> None:
  model = build()
  batch = only_inputs(model, batch_for(model))
  params = jax.eval_shape(model.init, jax.random.key(0), batch)
  names = model.axes(batch)
  assert isinstance(params, dict)

  def check(path: Any, param: Any, axis_names: tuple[str, ...]) -> None:
    assert param.dtype == np.float32, path
    axes.check(axis_names, param.ndim, str(path))
    # A router's experts stay whole: every device decides for all of its tokens.
    assert None not in axis_names or any(key.key == "router" for key in path), path

  jax.tree_util.tree_map_with_path(check, params, names)


@each
def test_init_depends_on_the_key_and_on_shapes_only(build: Build) -> None:
  model = build()
  init = jax.jit(model.init)
  a = init(jax.random.key(0), batch_for(model))
  b = init(jax.random.key(0), batch_for(model, seed=9))
  c = init(jax.random.key(1), batch_for(model))
  jax.tree.map(np.testing.assert_array_equal, a, b)
  assert any(
    not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(c), strict=True)
  )


@each
def test_logits_are_finite_float32_and_do_not_depend_on_padding_rows(build: Build) -> None:
  model = build(dtype="bfloat16")
  batch = batch_for(model)
  params = parameters(model.init, batch)
  output = jax.jit(model.apply)(params, batch)
  rows, length = batch[model.inputs[-1]].shape
  assert output.logits.shape == (rows, length, model.vocab_size)
  assert output.logits.dtype == np.float32
  assert output.hidden.dtype == jax.numpy.bfloat16
  assert np.isfinite(output.logits).all()
  empty = {name: np.zeros_like(x) for name, x in batch.items()}
  nothing = jax.jit(model.apply)(params, empty)
  assert np.isfinite(nothing.logits).all(), "a batch of padding alone is NaN"


@each
def test_dropout_follows_its_key_and_is_off_in_evaluation(build: Build) -> None:
  model, plain = build(dropout=0.5), build(dropout=0.0)
  batch = batch_for(model)
  params = parameters(model.init, batch)
  train = jax.jit(lambda key: model.apply(params, batch, rng=key, train=True).logits)
  one, again, other = (train(jax.random.key(seed)) for seed in (0, 0, 1))
  np.testing.assert_array_equal(one, again)
  assert np.abs(one - other).max() > 1e-2
  off, none = (jax.jit(m.apply)(params, batch).logits for m in (model, plain))
  np.testing.assert_array_equal(off, none)


@each
def test_every_parameter_gets_a_gradient(build: Build) -> None:
  model = build()
  batch = batch_for(model)
  params = parameters(model.init, batch)
  weights = np.random.default_rng(0).normal(size=(model.vocab_size,)).astype(np.float32)

  def total(params: Any) -> jax.Array:
    return jax.numpy.sum(model.apply(params, batch).logits * weights)

  grads = jax.jit(jax.grad(total))(params)
  for path, grad in jax.tree_util.tree_flatten_with_path(grads)[0]:
    # A key's bias adds the same to all scores of a query: softmax does not see it.
    *_, part, name = (getattr(key, "key", None) for key in path)
    if name != "bias" or part not in ("key", "key_global"):
      assert np.abs(grad).max() > 1e-6, path


@each
def test_a_missing_feature_and_a_long_sequence_are_told(build: Build) -> None:
  model = build()
  batch = batch_for(model)
  params = jax.eval_shape(model.init, jax.random.key(0), batch)
  less = {name: x for name, x in batch.items() if name != model.inputs[-1]}
  with pytest.raises(UserError, match=f"needs {model.inputs[-1]}"):
    jax.eval_shape(model.apply, params, less)
  if model.max_length is not None:
    long = batch_for(model, length=model.max_length + 1)
    with pytest.raises(UserError, match=f"end at {model.max_length}"):
      jax.eval_shape(model.apply, params, long)


@each
def test_cached_is_uncached_or_refused(build: Build) -> None:
  model = build()
  batch = batch_for(model, length=6)
  params = parameters(model.init, batch)
  if "decoder_input_tokens" not in model.inputs:
    with pytest.raises(UserError, match="cannot decode"):
      model.empty_cache(2, 8)
    return
  tokens = batch["decoder_input_tokens"]
  encoder = {name: x for name, x in batch.items() if name == "encoder_input_tokens"}
  source = encoder.get("encoder_input_tokens", np.zeros((2, 0))).shape[1]
  labels = {name: batch[name] for name in model.inputs if not name.endswith("_input_tokens")}
  every = {**encoder, **labels, "decoder_input_tokens": tokens}
  whole = jax.jit(model.apply)(params, every).logits
  cache = model.empty_cache(2, 8, source)
  for leaf in jax.tree.leaves(cache):
    assert leaf.shape[0] == 2, "the first axis of every leaf is the batch: beams are reordered"
  feed = jax.jit(lambda params, cache, batch: model.apply(params, batch, cache=cache))
  prepared = jax.jit(model.prepare)(params)
  shapes = jax.tree.map(np.shape, cache)
  for start, end in ((0, 4), (4, 5), (5, 6)):
    places = np.arange(start, end, dtype=np.int32)[None].repeat(2, 0)
    part = {
      **{name: x[:, start:end] for name, x in labels.items()},
      "decoder_input_tokens": tokens[:, start:end],
      "decoder_positions": places,
      "decoder_cache_start": np.int32(start),
      "decoder_cache_positions": np.arange(8, dtype=np.int32)[None],
    }
    if start == 0:
      output = feed(params, cache, {**part, **encoder})
    else:
      output = feed(prepared, cache, part)
    cache = output.cache
    assert jax.tree.map(np.shape, cache) == shapes
    np.testing.assert_allclose(output.logits, whole[:, start:end], rtol=2e-5, atol=2e-5)
