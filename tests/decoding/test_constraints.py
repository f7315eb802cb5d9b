import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.decoding._base import View
from mtm.decoding.beam import Beam
from mtm.decoding.constraints import Forbid, MinLength, NoRepeat
from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.decoding.sample import Sample, example_keys
from tests.decoding.models import EOS, Trigram, trigram

POLICIES = [Greedy(), Beam(3), Sample(temperature=2.0, num_samples=4)]


def decode(table, policy, length, *constraints):
  run = functools.partial(
    generate, Trigram(), policy=policy, max_length=length, eos_id=EOS, constraints=constraints
  )
  batch = {"decoder_input_tokens": np.zeros((2, 1), np.int32)}
  return jax.jit(run)(table, batch, example_keys(0, np.arange(2)))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_nothing_ends_before_the_minimum(policy):
  table, _ = trigram(8, 5)
  table[..., EOS] += 5.0
  assert int(np.min(decode(table, policy, 8).lengths)) < 5
  assert int(np.min(decode(table, policy, 8, MinLength(4)).lengths)) >= 5


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_forbidden_ids_never_come(policy):
  table, _ = trigram(8, 6)
  table[..., 2] += 3.0
  table[..., 4] += 3.0
  out = np.asarray(decode(table, policy, 8, Forbid((2, 4)), MinLength(8)).tokens)
  assert 2 in np.asarray(decode(table, policy, 8, MinLength(8)).tokens)
  assert not np.isin(out, [2, 4]).any()


@pytest.mark.parametrize("ngram", [1, 2, 3])
@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_no_ngram_comes_twice(policy, ngram):
  table, _ = trigram(10, 12, spread=0.3)
  table[..., 3] += 3.0
  constraints = (NoRepeat(ngram), Forbid((0, EOS)))
  out = np.asarray(decode(table, policy, 10, *constraints).tokens).reshape(-1, 10)
  for row in out.tolist():
    grams = [tuple(row[i : i + ngram]) for i in range(10 - ngram + 1)]
    assert len(grams) == len(set(grams))


def test_no_repeat_forbids_only_what_would_repeat():
  tokens = jnp.array([[[5, 6, 5, 0, 0]]])
  view = View(jnp.zeros((1, 1, 8)), tokens, jnp.int32(3), None, EOS)
  np.testing.assert_array_equal(np.flatnonzero(~np.asarray(NoRepeat(2)(view))[0, 0]), [6])
  np.testing.assert_array_equal(np.flatnonzero(~np.asarray(NoRepeat(1)(view))[0, 0]), [5, 6])
  assert np.asarray(NoRepeat(6)(view)).all()
