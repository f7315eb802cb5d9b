"""Texts of unknown domain, read by a model with an expert for each (DEMix, 2108.05036, §4).

p(x_t | x_<t) = Σ_d p(x_t | x_<t, d) · p(d | x_<t): all experts read the text, and those that have
foreseen it so far have more say. `mixed(model.apply, 8)` stands where `model.apply` stands. What it
takes of the domains before anything is read is the prior: uniform (None); cached, `prior_after` the
posteriors of texts seen before; or updating, a prior for each text by `in_turn`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mtm.errors import UserError
from mtm.types import Apply, Array, Batch, Cache, Output, Params

FEATURE = "decoder_domain"


def mixed(apply: Apply, domains: int, prior: Array | None = None) -> Apply:
  """An `apply` that reads `decoder_input_tokens` with every domain's expert and mixes.

  Its `logits` are log-probabilities. It has no hidden states of its own, `[batch, length, 0]`, no
  losses and metrics, and no cache. Documents that are packed in a row are judged each by itself.

  Args:
    apply: a decoder's, which reads the feature `decoder_domain`.
    domains: how many there are.
    prior: `[domains]`, or `[batch, domains]`, of a domain before anything is read; None: uniform.
  """

  def told(
    params: Params, batch: Batch, rng: Array | None = None, train: bool = False, cache: Cache = None
  ) -> Output:
    if cache is not None:
      raise UserError("a mixture of domains has no cache: decode with use_cache = False")
    ids_BL = jnp.asarray(batch["decoder_input_tokens"])
    prior_DB = _log_prior(prior, domains, ids_BL.shape[0])
    start_BL = _starts(batch, ids_BL)
    shape = jax.eval_shape(lambda: apply(params, _of_domain(batch, 0), rng, train)).logits.shape

    def add(so_far: tuple[Array, Array], domain: Array) -> tuple[tuple[Array, Array], None]:
      logits_BLV = apply(params, _of_domain(batch, domain), rng, train).logits
      log_probs_BLV = jax.nn.log_softmax(logits_BLV.astype(jnp.float32), axis=-1)
      evidence_BL = prior_DB[domain][:, None] + _evidence(log_probs_BLV, ids_BL, start_BL)
      joint_BLV = evidence_BL[..., None] + log_probs_BLV
      return (jnp.logaddexp(so_far[0], joint_BLV), jnp.logaddexp(so_far[1], evidence_BL)), None

    nothing = jnp.full(shape, -jnp.inf), jnp.full(shape[:2], -jnp.inf)
    (joint_BLV, evidence_BL), _ = jax.lax.scan(add, nothing, jnp.arange(domains))
    return Output(joint_BLV - evidence_BL[..., None], jnp.zeros((*ids_BL.shape, 0)))

  return told


def log_likelihoods(apply: Apply, params: Params, batch: Batch, domains: int) -> Array:
  """How likely each domain's expert finds each example's targets.

  Args:
    apply: a decoder's, which reads the feature `decoder_domain`.
    params: its parameters.
    batch: what it reads, `decoder_target_tokens` and `decoder_loss_weights`, one document a row.
    domains: how many there are.

  Returns:
    float32 `[batch, domains]`: log-probabilities in nats, times weights, summed over targets.
  """
  targets_BL = jnp.asarray(batch["decoder_target_tokens"])
  weights_BL = jnp.asarray(batch["decoder_loss_weights"], jnp.float32)

  def one(domain: Array) -> Array:
    logits_BLV = apply(params, _of_domain(batch, domain)).logits
    log_probs_BLV = jax.nn.log_softmax(logits_BLV.astype(jnp.float32), axis=-1)
    at_target_BL = jnp.take_along_axis(log_probs_BLV, targets_BL[..., None], axis=-1)[..., 0]
    return jnp.sum(at_target_BL * weights_BL, axis=1)

  return jax.lax.map(one, jnp.arange(domains)).T


def posterior(log_likelihoods_BD: Array, prior: Array | None = None) -> Array:
  """p(d | x), `[batch, domains]`, by Bayes' rule; the prior as in `mixed`."""
  batch, domains = log_likelihoods_BD.shape
  return jax.nn.softmax(log_likelihoods_BD + _log_prior(prior, domains, batch).T, axis=1)


def prior_after(posteriors_BD: Array, decay: float = 0.3) -> Array:
  """`[domains]`: the moving average of the posteriors of texts read so far, `[texts, domains]`, the
  last with most weight and each before it with `decay` of the next one's; uniform after none."""
  texts, domains = posteriors_BD.shape
  if texts == 0:
    return jnp.full((domains,), 1.0 / domains)
  weight_B = decay ** jnp.arange(texts - 1, -1, -1, dtype=jnp.float32)
  return weight_B @ posteriors_BD / jnp.sum(weight_B)


def in_turn(log_likelihoods_BD: Array, decay: float = 0.3) -> tuple[Array, Array]:
  """The updating prior: texts are read in their order, each with `prior_after` those before it.

  Returns:
    `[batch, domains]` twice: the priors, for `mixed`, and the posteriors.
  """
  domains = log_likelihoods_BD.shape[1]

  def read(sum_D: Array, log_likelihood_D: Array) -> tuple[Array, tuple[Array, Array]]:
    total = jnp.sum(sum_D)
    prior_D = jnp.where(total > 0, sum_D / jnp.where(total > 0, total, 1.0), 1.0 / domains)
    after_D = posterior(log_likelihood_D[None], prior_D)[0]
    return decay * sum_D + after_D, (prior_D, after_D)

  return jax.lax.scan(read, jnp.zeros(domains), log_likelihoods_BD)[1]


def _of_domain(batch: Batch, domain: Array | int) -> Batch:
  """The batch with this label on all tokens."""
  ids = jnp.asarray(batch["decoder_input_tokens"])
  return {**batch, FEATURE: jnp.full(ids.shape, domain, jnp.int32)}


def _log_prior(prior: Array | None, domains: int, batch: int) -> Array:
  """`[domains, batch]`."""
  if prior is None:
    prior = jnp.full((domains,), 1.0 / domains)
  prior = jnp.asarray(prior, jnp.float32)
  if prior.shape not in {(domains,), (batch, domains)}:
    raise UserError(
      f"a prior of shape {prior.shape} for {domains} domains and {batch} texts: give one number for"
      " each domain, or a row of them for each text"
    )
  return jnp.log(jnp.broadcast_to(prior, (batch, domains))).T


def _starts(batch: Batch, ids_BL: Array) -> Array:
  """`[batch, length]`: where in its row the document of a token begins."""
  segments = batch.get("decoder_segment_ids")
  index_BL = jnp.broadcast_to(jnp.arange(ids_BL.shape[1]), ids_BL.shape)
  if segments is None:
    return jnp.zeros_like(index_BL)
  first_BL = jnp.diff(jnp.asarray(segments), axis=1, prepend=-1) != 0
  return jax.lax.cummax(jnp.where(first_BL, index_BL, 0), axis=1)


def _evidence(log_probs_BLV: Array, ids_BL: Array, start_BL: Array) -> Array:
  """`[batch, length]`: log p of a token and those before it in its document, but for the first."""
  foreseen_BL = jnp.take_along_axis(log_probs_BLV[:, :-1], ids_BL[:, 1:, None], axis=-1)[..., 0]
  sum_BL = jnp.cumsum(jnp.pad(foreseen_BL, ((0, 0), (1, 0))), axis=1)
  return sum_BL - jnp.take_along_axis(sum_BL, start_BL, axis=1)
