"""Every family is a `mtm.types.Model`: pure functions, named axes, a cache that changes nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from jax.interpreters import partial_eval

from mtm import axes
from mtm.errors import UserError
from mtm.types import Model
from tests.contracts.discovered import batch_for, examples, only_inputs, parameters

Build = Callable[..., Model]


class Family:
  """An example of a family, and what one step of training says of it: few programs are compiled."""

  def __init__(self, build: Build) -> None:
    self.build, self.model = build, build()
    self.batch = batch_for(self.model)

  @functools.cached_property
  def params(self) -> Any:
    return parameters(self.model.init, self.batch)

  @functools.cached_property
  def step(self) -> Callable[[dict[str, np.ndarray], int], tuple[Any, Any]]:
    """Batch and seed → the gradient of logits times fixed weights, and the logits."""
    model = self.build(dropout=0.5)
    weights = np.random.default_rng(0).normal(size=(model.vocab_size,)).astype(np.float32)

    def total(params: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
      logits = model.apply(params, batch, rng=key, train=True).logits
      return jax.numpy.sum(logits * weights), logits

    step = jax.jit(jax.grad(total, has_aux=True))
    return lambda batch, seed: step(self.params, batch, jax.random.key(seed))


# Quick families have the same parts; these compile longest, or differ by sizes and names.
ALIKE = {
  "gpt3", "gpt_neo", "gshard", "hash_layers", "led", "longt5", "mbart", "mixtral", "opt", "pegasus",
  "roberta", "switch", "umt5",
}  # fmt: skip


def every_family() -> list[Any]:
  """The first example of each family; those of `ALIKE`, and all others, are slow."""
  found = examples("mtm.families", quick=1)
  assert ALIKE <= {str(one.id).rpartition("-")[0] for one in found}
  return [
    pytest.param(*one.values, id=one.id, marks=pytest.mark.slow)
    if str(one.id).rpartition("-")[0] in ALIKE
    else one
    for one in found
  ]


@pytest.fixture(scope="module", params=every_family())
def family(request: pytest.FixtureRequest) -> Family:
  with axes.use(None):
    return Family(request.param)


def test_parameters_are_float32_and_their_axes_are_known(family: Family) -> None:
  model, batch = family.model, only_inputs(family.model, family.batch)
  params = jax.eval_shape(model.init, jax.random.key(0), batch)
  names = model.axes(batch)
  assert isinstance(params, dict)

  def check(path: Any, param: Any, axis_names: tuple[str, ...]) -> None:
    assert param.dtype == np.float32, path
    axes.check(axis_names, param.ndim, str(path))
    # A router's experts stay whole: every device decides for all of its tokens.
    assert None not in axis_names or any(key.key == "router" for key in path), path

  jax.tree_util.tree_map_with_path(check, params, names)


def test_init_depends_on_the_key_and_on_shapes_only(family: Family) -> None:
  key, batch = jax.random.key(0), family.batch
  traced = jax.make_jaxpr(family.model.init)(key, batch).jaxpr
  _, used = partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars))
  assert used == [True] + [False] * len(batch)


def test_logits_are_float32_whatever_the_model_computes_in(family: Family) -> None:
  model, batch = family.build(dtype="bfloat16"), family.batch
  output = jax.eval_shape(model.apply, family.params, batch)
  rows, length = batch[model.inputs[-1]].shape
  assert output.logits.shape == (rows, length, model.vocab_size)
  assert output.logits.dtype == np.float32
  assert output.hidden.dtype == jax.numpy.bfloat16


def test_dropout_follows_its_key_and_is_off_in_evaluation(family: Family) -> None:
  (_, one), (_, again), (_, other) = (family.step(family.batch, seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(one, again)
  assert np.abs(one - other).max() > 1e-2
  off, none = (
    str(jax.make_jaxpr(family.build(dropout=rate).apply)(family.params, family.batch))
    for rate in (0.5, 0.0)
  )
  assert off == none


def test_every_parameter_gets_a_gradient(family: Family) -> None:
  grads, logits = family.step(family.batch, 0)
  assert np.isfinite(logits).all()
  for path, grad in jax.tree_util.tree_flatten_with_path(grads)[0]:
    # A key's bias adds the same to all scores of a query: softmax does not see it.
    *_, part, name = (getattr(key, "key", None) for key in path)
    if name != "bias" or part not in ("key", "key_global"):
      assert np.abs(grad).max() > 1e-6, path


def test_a_batch_of_padding_alone_is_finite(family: Family) -> None:
  empty = {name: np.zeros_like(x) for name, x in family.batch.items()}
  for values in jax.tree.leaves(family.step(empty, 0)):
    assert np.isfinite(values).all()


def test_a_missing_feature_and_a_long_sequence_are_told(family: Family) -> None:
  model, batch = family.model, family.batch
  params = jax.eval_shape(model.init, jax.random.key(0), batch)
  less = {name: x for name, x in batch.items() if name != model.inputs[-1]}
  with pytest.raises(UserError, match=f"needs {model.inputs[-1]}"):
    jax.eval_shape(model.apply, params, less)
  if model.max_length is not None:
    long = batch_for(model, length=model.max_length + 1)
    with pytest.raises(UserError, match=f"end at {model.max_length}"):
      jax.eval_shape(model.apply, params, long)


def test_cached_is_uncached_or_refused(family: Family) -> None:
  model = family.model
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
