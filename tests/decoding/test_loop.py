import functools

import jax
import numpy as np
import pytest

from mtm.decoding.beam import Beam
from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.errors import UserError
from mtm.families.bert import bert
from mtm.families.gpt2 import gpt2
from mtm.parts.patterns.prefix import prefix_lm
from tests.decoding.models import (
  EOS,
  Trigram,
  decoder,
  encoder_decoder,
  prompts,
  sharpened,
  sources,
  trigram,
)


def run(model, params, batch, policy=Greedy(), length=6, use_cache=True):  # noqa: B008
  settings = {"policy": policy, "max_length": length, "eos_id": EOS, "use_cache": use_cache}
  return jax.jit(functools.partial(generate, model, **settings))(params, batch)


def test_a_bidirectional_prefix_is_seen_in_both_directions_with_and_without_cache():
  # Two layers: in one, the last token reads keys that depend on no other token.
  model = gpt2(2, 16, 2, 13, max_length=24, dropout=0.0, pattern=prefix_lm())
  params = sharpened(model)
  batch = prompts([[5, 3, 7, 2], [6], [2, 12, 4]], 6)
  causal = run(model, params, batch)
  batch["decoder_causal_attention"] = batch["decoder_segment_ids"]
  with_cache, without = (run(model, params, batch, use_cache=c) for c in (True, False))
  np.testing.assert_array_equal(with_cache.tokens, without.tokens)
  np.testing.assert_allclose(with_cache.scores, without.scores, rtol=1e-4)
  # Were the prefix read causally, the likelihoods would be other ones.
  assert not np.allclose(causal.scores, with_cache.scores, rtol=1e-3)


@pytest.mark.parametrize("policy", [Greedy(), Beam(2)], ids=repr)
def test_beside_an_encoder_neither_cache_nor_padding_count(policy):
  model, params = encoder_decoder()
  rows = [[5, 3, 8, 1], [9, 1]]
  a = run(model, params, sources(rows, 9), policy)
  b = run(model, params, sources(rows, 4), policy, use_cache=False)
  np.testing.assert_array_equal(a.tokens, b.tokens)
  np.testing.assert_allclose(a.scores, b.scores, rtol=1e-4)


def test_a_decoder_prompt_continues_beside_an_encoder():
  model, params = encoder_decoder()
  free = run(model, params, sources([[5, 3, 1], [9, 1]], 4))
  forced = run(model, params, {**sources([[5, 3, 1], [9, 1]], 4), **prompts([[4, 4], []], 3)})
  np.testing.assert_array_equal(forced.tokens[1], free.tokens[1])
  assert not np.allclose(forced.scores[0], free.scores[0])


def test_the_loop_ends_when_all_examples_have_ended():
  steps = []

  class Counting(Trigram):
    def apply(self, params, batch, rng=None, train=False, cache=None):
      jax.debug.callback(lambda: steps.append(1))
      return super().apply(params, batch, rng, train, cache)

  table, _ = trigram(101, 4)
  table[2, ..., EOS] = 1e4
  out = run(Counting(), table, {"decoder_input_tokens": np.zeros((2, 1), np.int32)}, length=100)
  jax.block_until_ready(out)
  jax.effects_barrier()
  assert out.tokens.shape == (2, 1, 100)
  assert len(steps) == 1 + int(out.lengths.max())  # the prompt, then a turn a token


def test_the_prompt_takes_one_pass_and_no_token_is_fed_twice():
  shapes = []

  class Watching(Trigram):
    def apply(self, params, batch, rng=None, train=False, cache=None):
      shapes.append(batch["decoder_input_tokens"].shape)
      return super().apply(params, batch, rng, train, cache)

  table, _ = trigram(20, 4)
  run(Watching(), table, {"decoder_input_tokens": np.ones((2, 5), np.int32)}, length=3)
  assert shapes[0] == (2, 4) and set(shapes[1:]) == {(2, 1)}


def test_the_logits_of_the_prompt_are_never_computed():
  model, params = decoder()
  batch = {"decoder_input_tokens": np.ones((2, 12), np.int32)}
  decode = functools.partial(generate, model, policy=Greedy(), max_length=4)
  lowered = jax.jit(decode).lower(params, batch)
  text = lowered.compile(compiler_options={"xla_backend_optimization_level": 2}).as_text()
  assert "f32[2,1,13]" in text or "f32[2,13]" in text  # the loop's
  assert "f32[2,11,13]" not in text and "f32[22,13]" not in text  # 11 tokens of prompt


def test_a_length_of_zero_is_refused():
  model, params = decoder()
  with pytest.raises(UserError, match="max_length = 0"):
    generate(model, params, prompts([[5]], 2), policy=Greedy(), max_length=0)


def test_an_encoder_cannot_decode():
  model = bert(layers=1, embed=8, heads=2, vocab=13, max_length=8)
  batch = {"encoder_input_tokens": np.ones((1, 4), np.int32)}
  with pytest.raises(UserError, match="cannot decode"):
    generate(model, sharpened(model), batch, policy=Greedy(), max_length=2)
