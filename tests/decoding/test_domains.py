"""Mixtures of domains: the model is a table of bigrams for each, so all has a closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.decoding import domains
from mtm.errors import UserError
from mtm.families.demix import demix
from mtm.parts.experts import banks
from mtm.types import Output
from tests.contracts.discovered import parameters

DOMAINS, VOCAB, L = 3, 5, 6
RNG = np.random.default_rng(0)
TABLE = jnp.asarray(RNG.normal(0, 2, (DOMAINS, VOCAB, VOCAB)), jnp.float32)
LOG_P = np.asarray(jax.nn.log_softmax(TABLE, axis=-1))
PRIOR = np.array([0.2, 0.5, 0.3], np.float32)


def apply(params, batch, rng=None, train=False, cache=None):
  logits = params[batch["decoder_domain"], batch["decoder_input_tokens"]]
  return Output(logits, jnp.zeros((*logits.shape[:2], 1)))


def texts(rows: int = 4) -> dict[str, np.ndarray]:
  ids = RNG.integers(1, VOCAB, (rows, L + 1))
  ids[:, 0] = 0
  weights = np.ones((rows, L), np.int32)
  return {
    "decoder_input_tokens": ids[:, :-1],
    "decoder_target_tokens": ids[:, 1:],
    "decoder_loss_weights": weights,
  }


def likelihoods(batch) -> np.ndarray:
  """`[rows, domains]`, by the tables."""
  of = batch["decoder_input_tokens"], batch["decoder_target_tokens"]
  return np.stack([LOG_P[d][of].sum(1) for d in range(DOMAINS)], axis=1)


def at_targets(prior, batch) -> np.ndarray:
  logits = jax.jit(domains.mixed(apply, DOMAINS, prior))(TABLE, batch).logits
  # It says probabilities: they add up to 1 but for float32 sums.
  np.testing.assert_allclose(jax.nn.logsumexp(logits, axis=-1), 0, atol=1e-5)
  return np.take_along_axis(np.asarray(logits), batch["decoder_target_tokens"][..., None], 2)[
    ..., 0
  ]


def test_the_mixture_of_a_whole_text_is_the_mean_of_its_likelihoods() -> None:
  """The chain rule: Π_t p(x_t | x_<t) = Σ_d p(d) Π_t p(x_t | x_<t, d)."""
  batch = texts()
  wanted = np.log(np.exp(likelihoods(batch)) @ PRIOR)
  # Sums of six float32 logarithms.
  np.testing.assert_allclose(at_targets(PRIOR, batch).sum(1), wanted, rtol=1e-5)
  uniform = np.log(np.exp(likelihoods(batch)).mean(1))
  np.testing.assert_allclose(at_targets(None, batch).sum(1), uniform, rtol=1e-5)


def test_each_text_may_have_a_prior_and_a_sure_one_leaves_one_expert() -> None:
  batch = texts(3)
  said = at_targets(np.eye(3, dtype=np.float32), batch)
  of = batch["decoder_input_tokens"], batch["decoder_target_tokens"]
  for row in range(3):
    alone = LOG_P[row][of[0][row], of[1][row]]
    np.testing.assert_allclose(said[row], alone, rtol=1e-5, atol=1e-5)


def test_documents_packed_in_a_row_are_judged_each_by_itself() -> None:
  batch = texts(2)
  packed = {name: values.reshape(1, -1) for name, values in batch.items()}
  packed["decoder_segment_ids"] = np.repeat([[1, 2]], L, axis=1).reshape(1, -1)
  alone, together = at_targets(PRIOR, batch), at_targets(PRIOR, packed)
  np.testing.assert_allclose(together.reshape(alone.shape), alone, rtol=1e-5, atol=1e-5)


def test_likelihoods_and_posteriors_are_those_of_the_tables() -> None:
  batch = texts()
  ours = domains.log_likelihoods(apply, TABLE, batch, DOMAINS)
  np.testing.assert_allclose(ours, likelihoods(batch), rtol=1e-5)
  joint = np.exp(likelihoods(batch)) * PRIOR
  wanted = joint / joint.sum(1, keepdims=True)
  np.testing.assert_allclose(domains.posterior(ours, PRIOR), wanted, rtol=1e-4)
  batch["decoder_loss_weights"] = np.zeros((4, L), np.int32)  # nothing read: the prior
  nothing = domains.log_likelihoods(apply, TABLE, batch, DOMAINS)
  np.testing.assert_allclose(domains.posterior(nothing, PRIOR), np.tile(PRIOR, (4, 1)), rtol=1e-5)


def test_the_prior_is_a_moving_average_of_posteriors() -> None:
  past = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
  wanted = np.array([0.01, 0.1, 1.0]) / 1.11
  np.testing.assert_allclose(domains.prior_after(past, 0.1), wanted, rtol=1e-6)
  np.testing.assert_allclose(domains.prior_after(past[:0]), np.full(3, 1 / 3), rtol=1e-6)


def test_an_updating_prior_is_that_after_the_texts_before() -> None:
  found = jnp.asarray(likelihoods(texts()))
  priors, posteriors = domains.in_turn(found, 0.3)
  for text in range(4):
    prior = domains.prior_after(posteriors[:text], 0.3)
    np.testing.assert_allclose(priors[text], prior, rtol=1e-5)
    np.testing.assert_allclose(
      posteriors[text], domains.posterior(found[text : text + 1], prior)[0], rtol=1e-5
    )


def test_a_prior_for_other_domains_and_a_cache_are_refused() -> None:
  with pytest.raises(UserError, match="one number for each domain"):
    domains.mixed(apply, DOMAINS, np.ones(2))(TABLE, texts())
  with pytest.raises(UserError, match="use_cache = False"):
    domains.mixed(apply, DOMAINS)(TABLE, texts(), cache={})


def test_a_demix_is_mixed_and_a_domain_that_is_added_as_a_copy_changes_nothing() -> None:
  model, larger = (demix(1, 8, 2, VOCAB, domains=count, max_length=L) for count in (2, 3))
  batch = texts(2)
  labelled = {**batch, "decoder_domain": np.zeros((2, L), np.int32)}
  params = parameters(model.init, labelled)
  found = jax.jit(lambda p: domains.log_likelihoods(model.apply, p, batch, 2))(params)
  assert float(jnp.min(jnp.abs(found[:, 0] - found[:, 1]))) > 1e-3, "the experts agree"
  wanted = np.log(np.exp(np.asarray(found, np.float64)) @ [0.4, 0.6])
  # Shared out between a domain and its copy, the prior means the same.
  more = banks.added(params, model.axes(labelled), like=(1,))
  prior = np.array([0.4, 0.5, 0.1], np.float32)
  told = jax.jit(domains.mixed(larger.apply, 3, prior))(more, batch).logits
  at_target = np.take_along_axis(told, batch["decoder_target_tokens"][..., None], 2)[..., 0]
  np.testing.assert_allclose(at_target.sum(1), wanted, rtol=1e-5)  # float32 sums
