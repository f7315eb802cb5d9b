"""Every position scheme, over the EXAMPLES of `mtm.parts.positions`, in a model of one layer.

It stands in both places: in the tower, where it embeds and biases all layers, and in attention,
where it rotates and biases one.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.parts.attention import Attention
from mtm.parts.heads import TiedHead
from mtm.parts.linear import Embed
from mtm.parts.norm import RMSNorm
from mtm.parts.patterns.causal import Causal
from mtm.parts.positions import Position
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import Decoder, Model, Tower
from tests.contracts.discovered import examples, parameters

each = pytest.mark.parametrize("position", examples("mtm.parts.positions", quick=1))
EMBED, VOCAB, LENGTH = 24, 19, 12

# The same sums of float32 numbers in another order.
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


def model_with(position: Position, in_tower: bool) -> tuple[Model, Any]:
  """A decoder of one layer, and parameters for it."""
  heads = getattr(position, "heads", 4)
  embed = getattr(position, "features", EMBED)
  block = Block(
    mixer=Attention(heads, 4, pattern=Causal(), position=None if in_tower else position.clone()),
    channel=None,
    norm=RMSNorm,
  )
  tower = Tower(Stack((block,), 1), position=position.clone() if in_tower else Position())
  model = Model(Decoder(Embed(VOCAB, embed), tower, TiedHead()), ("decoder_input_tokens",), VOCAB)
  batch = {"decoder_input_tokens": np.zeros((1, LENGTH), np.int32)}
  return model, parameters(model.init, batch)


def ids(rows: int = 2) -> np.ndarray:
  return np.random.default_rng(0).integers(2, VOCAB, (rows, LENGTH)).astype(np.int32)


@pytest.mark.parametrize("in_tower", [True, False], ids=["tower", "attention"])
@each
def test_packed_documents_get_what_they_get_alone(position: Position, in_tower: bool) -> None:
  model, params = model_with(position, in_tower)
  tokens = ids()
  cut = 5
  positions = np.concatenate([np.arange(cut), np.arange(LENGTH - cut)])[None].repeat(2, 0)
  segments = np.repeat([1, 2], [cut, LENGTH - cut])[None].repeat(2, 0)
  apply = jax.jit(model.apply)
  packed = apply(params, {
    "decoder_input_tokens": tokens,
    "decoder_positions": positions.astype(np.int32),
    "decoder_segment_ids": segments.astype(np.int32),
  }).logits  # fmt: skip
  first = apply(params, {"decoder_input_tokens": tokens[:, :cut]}).logits
  second = apply(params, {"decoder_input_tokens": tokens[:, cut:]}).logits
  np.testing.assert_allclose(packed, np.concatenate([first, second], axis=1), **CLOSE)


@pytest.mark.parametrize("in_tower", [True, False], ids=["tower", "attention"])
@each
def test_cached_is_uncached(position: Position, in_tower: bool) -> None:
  """A prompt in one piece, then token after token, each example at a place of its own."""
  model, params = model_with(position, in_tower)
  tokens = ids()
  whole = jax.jit(model.apply)(params, {"decoder_input_tokens": tokens}).logits
  starts = np.array([4, 2])
  feed = jax.jit(lambda cache, batch: model.apply(params, batch, cache=cache))
  slots = np.arange(LENGTH)[None]
  prompt = np.where(slots < starts[:, None], slots, LENGTH)  # padding stands nowhere
  places = np.where(slots < 4, prompt, starts[:, None] + slots - 4)
  batch = {
    "decoder_input_tokens": tokens[:, :4],
    "decoder_positions": places[:, :4],
    "decoder_cache_start": np.int32(0),
    "decoder_cache_positions": places,
  }
  cache = feed(model.empty_cache(2, LENGTH), batch).cache
  for step in range(LENGTH - 4):
    here = starts + step
    batch = {
      "decoder_input_tokens": np.take_along_axis(tokens, here[:, None], axis=1),
      "decoder_positions": here[:, None],
      "decoder_cache_start": np.int32(4 + step),
      "decoder_cache_positions": places,
    }
    output = feed(cache, batch)
    cache = output.cache
    np.testing.assert_allclose(output.logits[:, 0], whole[np.arange(2), here], **CLOSE)


@each
def test_order_changes_the_output(position: Position) -> None:
  """Some place of the scheme must see order: two equal tokens at the end, the rest swapped."""
  tokens = ids()
  swapped = tokens.copy()
  swapped[:, [1, 6]] = swapped[:, [6, 1]]
  changed = []
  for in_tower in (True, False):
    model, params = model_with(position, in_tower)
    a, b = (
      jax.jit(model.apply)(params, {"decoder_input_tokens": x}).logits[:, -1]
      for x in (tokens, swapped)
    )
    changed.append(float(jnp.max(jnp.abs(a - b))))
  assert max(changed) > 1e-3


@each
def test_bias_is_a_function_of_differences(position: Position) -> None:
  model, params = model_with(position, in_tower=True)
  own = params["decoder"].get("position", {})
  bias = functools.partial(position.apply, {"params": own}, method="bias")
  q, k = jnp.arange(5)[None], jnp.arange(9)[None]
  here, there = bias(q, k), bias(q + 17, k + 17)
  if here is not None:
    assert here.shape == (1, position.heads, 5, 9)
    np.testing.assert_array_equal(here, there)


def test_no_position_at_all_sees_no_order() -> None:
  assert all(field.name in ("parent", "name") for field in dataclasses.fields(Position)), (
    "the base of all schemes has no fields"
  )
  model, params = model_with(Position(), in_tower=True)
  tokens = ids()
  swapped = tokens.copy()
  swapped[:, [1, 6]] = swapped[:, [6, 1]]
  a, b = (model.apply(params, {"decoder_input_tokens": x}).logits[:, -1] for x in (tokens, swapped))
  np.testing.assert_allclose(a, b, **CLOSE)
