"""A cache of what a pattern still shows gives what a cache of everything gives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.parts.attention import Attention
from mtm.parts.heads import TiedHead
from mtm.parts.linear import Embed
from mtm.parts.norm import RMSNorm
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.global_places import Global
from mtm.parts.patterns.local_block import LocalBlock
from mtm.parts.patterns.per_head import PerHead
from mtm.parts.patterns.summary import Summary
from mtm.parts.patterns.window import Window
from mtm.parts.positions.t5_bias import T5Bias
from mtm.parts.sparse_cache import SparseKeyValue
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import Decoder, Model, Tower
from tests.contracts.discovered import parameters

VOCAB, NO_END = 23, -1
PATTERNS = {
  "window": Causal() & Window(4, 0),
  "sinks": Causal() & (Window(3, 0) | Global(2)),
  "fixed": Causal() & (LocalBlock(4) | Summary(4, 1)),
  "by_head": PerHead((Causal() & Window(2, 0), Causal() & Window(5, 0))),
}


def model_with(pattern: Pattern) -> Model:
  blocks = tuple(
    Block(Attention(2, 4, pattern=p, kernel="reference"), None, RMSNorm)
    for p in (pattern, Causal())
  )
  tower = Tower(Stack(blocks, 1), position=T5Bias(2, bidirectional=False, buckets=8))
  return Model(Decoder(Embed(VOCAB, 8), tower, TiedHead()), ("decoder_input_tokens",), VOCAB)


def caches(model: Model, length: int) -> list[SparseKeyValue]:
  every = jax.tree.leaves(
    model.empty_cache(2, length), is_leaf=lambda x: isinstance(x, SparseKeyValue)
  )
  return [cache for cache in every if isinstance(cache, SparseKeyValue)]


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_generation_with_it_is_generation_without_a_cache(pattern: Pattern) -> None:
  """Prompts of different lengths, so that examples write different slots."""
  model = model_with(pattern)
  tokens = np.random.default_rng(0).integers(2, VOCAB, (3, 9)).astype(np.int32)
  lengths = np.array([9, 4, 1])
  real = (np.arange(9)[None] < lengths[:, None]).astype(np.int32)
  batch = {"decoder_input_tokens": tokens * real, "decoder_segment_ids": real}
  params = parameters(model.init, batch)
  assert len(caches(model, 24)) == 1, "the first block's cache is the small one"
  run = jax.jit(
    lambda params, cached: generate(
      model, params, batch, policy=Greedy(), max_length=15, eos_id=NO_END, use_cache=cached
    ),
    static_argnums=1,
  )
  small, none = run(params, True), run(params, False)
  np.testing.assert_array_equal(small.tokens, none.tokens)
  # The same sums of float32 numbers in another order.
  np.testing.assert_allclose(small.scores, none.scores, rtol=1e-5, atol=1e-5)


def test_a_window_has_a_ring_of_its_size() -> None:
  (cache,) = caches(model_with(PATTERNS["window"]), 1000)
  assert cache.k.shape == (2, 5, 2, 4)
  np.testing.assert_array_equal(cache.lifetimes.slot, np.arange(1000) % 5)


def test_a_prompt_in_pieces_is_a_prompt_in_one() -> None:
  model = model_with(PATTERNS["sinks"])
  tokens = np.random.default_rng(1).integers(2, VOCAB, (2, 12)).astype(np.int32)
  params = parameters(model.init, {"decoder_input_tokens": tokens})
  whole = model.apply(params, {"decoder_input_tokens": tokens}).logits
  places = np.arange(12, dtype=np.int32)[None]
  cache, parts = model.empty_cache(2, 12), []
  for start, stop in ((0, 5), (5, 6), (6, 12)):
    batch = {
      "decoder_input_tokens": tokens[:, start:stop],
      "decoder_positions": np.tile(places[:, start:stop], (2, 1)),
      "decoder_cache_start": start if start == 0 else jnp.int32(start),
      "decoder_cache_positions": places,
    }
    output = model.apply(params, batch, cache=cache)
    cache = output.cache
    parts.append(output.logits)
  np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-5, atol=1e-5)
