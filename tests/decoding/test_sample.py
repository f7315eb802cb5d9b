import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from mtm.decoding._base import NEVER, View
from mtm.decoding.loop import generate
from mtm.decoding.sample import Sample, example_keys, filtered
from mtm.errors import UserError
from tests.decoding.models import decoder, prompts

LOGITS = np.array([0.5, -1.0, 2.0, 1.2, 0.0, -0.3, 1.2], np.float32)


def draws(policy, examples=4000, step=0):
  """Tokens `[examples, samples]` drawn from LOGITS, each example under its own key."""
  log_probs = jnp.broadcast_to(
    jax.nn.log_softmax(jnp.asarray(LOGITS)), (examples, policy.width, LOGITS.size)
  )
  keys = example_keys(7, np.arange(examples))
  tokens = jnp.zeros((examples, policy.width, 1), jnp.int32)
  choose = jax.jit(lambda view: policy.choose(view))
  return np.asarray(choose(View(log_probs, tokens, jnp.int32(step), keys, 1)))


def assert_follows(tokens, probabilities):
  support = probabilities > 0
  counts = np.bincount(tokens.reshape(-1), minlength=LOGITS.size)
  assert not counts[~support].any()
  expected = probabilities[support] * counts.sum()
  # The seed is fixed: a p-value this small would mean another distribution.
  assert scipy.stats.chisquare(counts[support], expected).pvalue > 1e-3


def test_draws_follow_the_softmax():
  assert_follows(draws(Sample()), scipy.special.softmax(LOGITS.astype(np.float64)))


def test_temperature_sharpens_the_softmax():
  policy = Sample(temperature=0.5)
  assert_follows(draws(policy), scipy.special.softmax(LOGITS.astype(np.float64) / 0.5))


def test_top_k_draws_from_exactly_k_tokens_of_equals_the_first():
  probabilities = np.zeros(7)
  probabilities[[2, 3]] = scipy.special.softmax(LOGITS[[2, 3]].astype(np.float64))
  assert_follows(draws(Sample(top_k=2)), probabilities)


def test_top_p_keeps_the_fewest_tokens_that_reach_it():
  p = scipy.special.softmax(LOGITS.astype(np.float64))
  order = np.argsort(-p, kind="stable")
  kept = order[: np.searchsorted(np.cumsum(p[order]), 0.8) + 1]
  probabilities = np.zeros(7)
  probabilities[kept] = p[kept] / p[kept].sum()
  assert 1 < len(kept) < 7
  assert_follows(draws(Sample(top_p=0.8)), probabilities)


def test_top_p_takes_its_share_of_what_top_k_left():
  out = np.asarray(filtered(jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1])), top_k=2, top_p=0.5))
  # Of the two left the first holds 4/7 > 0.5; of all four it would hold 0.4 < 0.5.
  np.testing.assert_array_equal(out > NEVER, [True, False, False, False])


def test_a_tiny_top_p_leaves_the_likeliest_token():
  out = np.asarray(filtered(jnp.asarray(LOGITS), top_p=1e-6))
  np.testing.assert_array_equal(np.flatnonzero(out > NEVER), [2])


def test_no_filter_changes_nothing():
  np.testing.assert_array_equal(filtered(jnp.asarray(LOGITS), top_k=7), LOGITS)


def test_samples_and_steps_are_independent():
  policy = Sample(num_samples=2)
  first, second = draws(policy).T
  p = scipy.special.softmax(LOGITS.astype(np.float64))
  agree = np.sum(p**2)  # of two independent draws
  spread = 4 * np.sqrt(agree * (1 - agree) / 4000)
  assert abs(np.mean(first == second) - agree) < spread
  assert abs(np.mean(first == draws(policy, step=1)[:, 0]) - agree) < spread


def test_the_first_samples_are_the_same_however_many_are_drawn():
  np.testing.assert_array_equal(
    draws(Sample(num_samples=3), 50)[:, :2], draws(Sample(num_samples=2), 50)
  )


def test_another_seed_draws_something_else():
  model, params = decoder()
  decode = jax.jit(functools.partial(generate, model, policy=Sample(temperature=3.0), max_length=8))
  batch = prompts([[5, 3, 7], [4, 4, 4]], 4)
  one, two = (decode(params, batch, example_keys(seed, np.arange(2))).tokens for seed in (0, 1))
  assert (np.asarray(one) != np.asarray(two)).any()


def test_without_keys_the_error_says_how_to_make_them():
  model, params = decoder()
  with pytest.raises(UserError, match="example_keys"):
    generate(model, params, prompts([[5]], 2), policy=Sample(), max_length=2)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"temperature": 0.0}, "Greedy"),
    ({"temperature": float("nan")}, "above 0"),
    ({"top_k": -1}, "top_k = -1"),
    ({"top_p": 0.0}, "top_p = 0.0"),
    ({"top_p": 1.5}, "at most 1"),
    ({"num_samples": 0}, "num_samples = 0"),
  ],
)
def test_numbers_out_of_range_are_refused(values, message):
  with pytest.raises(UserError, match=message):
    Sample(**values)
