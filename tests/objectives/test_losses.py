"""Cross-entropy with z-loss and label smoothing: its formula, differentiated automatically."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.objectives._losses import cross_entropy

RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.normal(size=(2, 5, 17))).astype(np.float32)
TARGETS = RNG.integers(0, 17, (2, 5)).astype(np.int32)


def plain(logits: jax.Array, targets: jax.Array, z: float, smoothing: float) -> tuple:
  """T5X `compute_weighted_cross_entropy`, term by term."""
  vocab = logits.shape[-1]
  low = smoothing / (vocab - 1)
  soft = jnp.where(jax.nn.one_hot(targets, vocab) > 0, 1 - smoothing, low)
  log_z = jax.scipy.special.logsumexp(logits, axis=-1)
  loss = -jnp.sum(soft * (logits - log_z[..., None]), axis=-1)
  loss += (1 - smoothing) * jnp.log(1 - smoothing) + (vocab - 1) * low * jnp.log(low + 1e-20)
  return loss, z * log_z**2


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("z", [0.0, 1e-2])
def test_values_and_gradients_are_those_of_the_formula(z: float, smoothing: float) -> None:
  g = RNG.normal(size=(2, 2, 5)).astype(np.float32)

  def run(f: object) -> object:
    def total(logits: jax.Array) -> jax.Array:
      nll, regulariser = f(logits, TARGETS, z, smoothing)  # type: ignore[operator]
      return jnp.sum(nll * g[0] + regulariser * g[1])

    return f(LOGITS, TARGETS, z, smoothing), jax.grad(total)(LOGITS)  # type: ignore[operator]

  ours, wanted = run(cross_entropy), run(plain)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, wanted)


def test_a_perfect_prediction_costs_nothing() -> None:
  logits = jnp.where(jax.nn.one_hot(TARGETS, 17) > 0, jnp.log(0.9), jnp.log(0.1 / 16))
  nll, _ = cross_entropy(logits, TARGETS, 0.0, 0.1)
  np.testing.assert_allclose(nll, 0, atol=1e-6)


def test_large_logits_do_not_overflow() -> None:
  nll, _ = cross_entropy(LOGITS * 1e4, TARGETS)
  assert np.isfinite(nll).all()
  grads = jax.grad(lambda x: cross_entropy(x, TARGETS)[0].sum())(LOGITS * 1e4)
  assert np.isfinite(grads).all()


def test_an_id_beyond_the_vocabulary_is_not_silently_another_one() -> None:
  beyond = np.where(np.arange(5) == 0, 17, TARGETS)
  nll, _ = cross_entropy(LOGITS, beyond)
  assert np.isnan(nll[:, 0]).all() and np.isfinite(nll[:, 1:]).all()
