import functools

import jax
import numpy as np
import pytest

from mtm.decoding.beam import Beam
from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.decoding.sample import Sample
from mtm.errors import UserError
from mtm.families.gpt2 import gpt2
from mtm.programs.generation import Generator
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from tests.decoding.models import (
  EOS,
  decoder,
  encoder_decoder,
  likeliest,
  prompts,
  sharpened,
  sources,
)

PLAN = Plan(mesh(devices=jax.devices()[:1]))
ROWS = [[5, 3, 6, 2], [4], [6, 6, 2], [], [7, 2]]


@pytest.mark.parametrize("policy", [Greedy(), Beam(2)], ids=repr)
def test_a_decoder_continues_its_prompts_as_the_plain_loop_does(policy):
  model, params = decoder()
  out = generate(model, params, prompts(ROWS, 8), policy=policy, max_length=5, eos_id=EOS)
  got = list(Generator(model, PLAN, policy, 5, EOS, batch_size=8)(params, enumerate(ROWS)))
  for row, tokens, lengths in zip(
    got, np.asarray(out.tokens), np.asarray(out.lengths), strict=True
  ):
    found = [ids[:length].tolist() for ids, length in zip(tokens, lengths, strict=True) if length]
    for hypothesis, expected in zip(row, found, strict=True):
      assert hypothesis.tokens == (expected[:-1] if expected[-1] == EOS else expected)


def test_an_encoder_decoder_reads_its_inputs_in_the_encoder():
  model, params = encoder_decoder()
  rows = [[5, 3, 8, 1], [9, 1], [4, 4, 1]]
  out = generate(model, params, sources(rows, 6), policy=Greedy(), max_length=5, eos_id=EOS)
  got = list(Generator(model, PLAN, Greedy(), 5, EOS, batch_size=2)(params, enumerate(rows)))
  np.testing.assert_allclose([row[0].score for row in got], np.asarray(out.scores)[:, 0], rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 5, pytest.param(2, marks=pytest.mark.slow)])
def test_samples_depend_on_the_number_of_the_example_and_not_on_its_batch(batch_size):
  model, params = decoder()
  make = functools.partial(Generator, model, PLAN, Sample(num_samples=2), 6, EOS)
  whole = list(make(batch_size=4)(params, enumerate(ROWS)))
  assert list(map(texts, make(batch_size=batch_size)(params, enumerate(ROWS)))) == [
    texts(row) for row in whole
  ]
  later = list(make(batch_size=batch_size)(params, [(3, ROWS[3]), (4, ROWS[4])]))
  assert [texts(row) for row in later] == [texts(row) for row in whole[3:]]


def test_with_and_without_cache_are_equal():
  model, params = decoder()
  a, b = (
    list(Generator(model, PLAN, Greedy(), 6, EOS, 5, use_cache=use)(params, enumerate(ROWS)))
    for use in (True, False)
  )
  assert [texts(row) for row in a] == [texts(row) for row in b]


def test_a_prompt_that_leaves_no_room_is_refused():
  model = gpt2(1, 16, 2, 13, max_length=20, dropout=0.0)
  generator = Generator(model, PLAN, Greedy(), 8, EOS, 1)
  params = sharpened(model)
  assert list(generator(params, [(0, [3] * 12)]))
  with pytest.raises(UserError, match="a prompt of 13 tokens and 8 generated ones"):
    list(generator(params, [(0, [3] * 13)]))


class TestWithoutAnEnd:
  """A vocabulary may lack an end: then no id is one, and only the length ends a hypothesis."""

  def test_the_id_that_would_end_is_a_word_like_any_other(self):
    model, params = decoder()
    prompt = ROWS[0]
    said = likeliest(model, params, prompt, 5, end=None)
    end = next(token for token in said if token != said[0])
    kept = said[: said.index(end)]
    make = functools.partial(Generator, model, PLAN, Greedy(), 5, batch_size=1)
    ((ended,),) = make(eos_id=end)(params, [(0, prompt)])
    ((endless,),) = make(eos_id=None)(params, [(0, prompt)])
    assert ended.tokens == kept and endless.tokens == said

  @pytest.mark.parametrize("policy", [Beam(2), Sample(num_samples=2)], ids=repr)
  def test_every_hypothesis_has_the_whole_length(self, policy):
    model, params = decoder()
    rows = list(Generator(model, PLAN, policy, 5, None, batch_size=5)(params, enumerate(ROWS)))
    assert [[len(tokens) for tokens in texts(row)] for row in rows] == [[5, 5]] * len(ROWS)
    # With an end some are shorter.
    rows = list(Generator(model, PLAN, policy, 5, EOS, batch_size=5)(params, enumerate(ROWS)))
    assert min(len(tokens) for row in rows for tokens in texts(row)) < 5


def texts(row):
  return [h.tokens for h in row]
