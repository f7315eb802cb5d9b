"""FAVOR+: random features whose linear attention tends to softmax attention."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.attention import Attention
from mtm.parts.context import Context
from mtm.parts.kernels.reference import Reference
from mtm.parts.mixers.linear import LinearAttention
from mtm.parts.mixers.performer import RandomFeatures, directions
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from tests.contracts.discovered import parameters

RNG = np.random.default_rng(0)
K = 8
# Small ones: exponentials of long vectors have tails that no test of means can wait for.
Q, KEY = (0.5 * RNG.normal(size=(1, 5, 1, K)).astype(np.float32) for _ in range(2))


def estimate(features: int, seed: int) -> np.ndarray:
  """φ(q) · φ(k) of all pairs, `[5, 5]`."""

  def true(x: np.ndarray) -> np.ndarray:
    values, log_scale = RandomFeatures(features, seed)(jnp.asarray(x))
    return np.asarray(values * jnp.exp(log_scale)[..., None])[0, :, 0]

  return true(Q) @ true(KEY).T


def test_the_mean_over_seeds_is_the_softmax_kernel() -> None:
  wanted = np.exp(Q[0, :, 0] @ KEY[0, :, 0].T / K**0.5)
  draws = np.stack([estimate(8 * K, seed) for seed in range(300)])
  error = draws.std(axis=0) / len(draws) ** 0.5
  # 25 pairs: four standard errors are exceeded by chance once in six hundred such tests.
  assert (np.abs(draws.mean(axis=0) - wanted) < 4 * error).all()
  assert (error < 0.02 * wanted).all()


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bi"])
def test_it_tends_to_softmax_attention_with_more_features(causal: bool) -> None:
  x = jnp.asarray(0.4 * RNG.normal(size=(2, 12, 16)), jnp.float32)
  context = Context(
    jnp.tile(jnp.arange(12)[None], (2, 1)), jnp.array([[1] * 12, [1] * 5 + [2] * 7])
  )
  softmax = Attention(2, K, pattern=Causal() if causal else Full(), kernel=Reference())
  params = parameters(softmax.init, x, context)
  wanted = softmax.apply(params, x, context)[0]

  def error(features: int) -> float:
    """Root mean square, relative, over two draws."""
    squares = []
    for seed in range(2):
      mixer = LinearAttention(2, K, causal, RandomFeatures(features, seed), chunk=4)
      y = jax.jit(mixer.apply)(params, x, context)[0]
      squares.append(float(jnp.mean((y - wanted) ** 2) / jnp.mean(wanted**2)))
    return np.mean(squares) ** 0.5

  few, more, most = error(16), error(256), error(4096)
  # Sixteen times the features are a quarter of the error; the draws leave a factor of about two.
  assert more < few / 2 and most < more / 2, (few, more, most)
  assert most < 0.05


def test_directions_are_orthogonal_in_groups_and_normal_one_by_one() -> None:
  w = directions(20, K, 0)
  assert w.shape == (20, K) and w.dtype == np.float32
  for group in (w[:8], w[8:16], w[16:]):
    product = group @ group.T
    np.testing.assert_allclose(product - np.diag(np.diag(product)), 0, atol=1e-5)
  every = np.concatenate([directions(K, K, seed) for seed in range(300)])
  # 2400 rows: a mean has the standard error 0.02, a variance 0.03.
  np.testing.assert_allclose(every.mean(axis=0), 0, atol=0.1)
  np.testing.assert_allclose(np.cov(every.T), np.eye(K), atol=0.15)


def test_orthogonal_directions_vary_less_than_independent_ones() -> None:
  q, k = Q[0, :, 0] * K**-0.25, KEY[0, :, 0] * K**-0.25

  def independent(seed: int) -> np.ndarray:
    w = np.random.default_rng(seed).normal(size=(K, K))
    of = [np.exp(x @ w.T - 0.5 * (x * x).sum(-1, keepdims=True)) for x in (q, k)]
    return of[0] @ of[1].T / K

  ours, theirs = ([f(s) for s in range(300)] for f in (lambda s: estimate(K, s), independent))
  wanted = np.exp(q @ k.T)
  squares = [((np.stack(x) - wanted) ** 2).mean() for x in (ours, theirs)]
  assert squares[0] < 0.9 * squares[1]


def test_the_seed_decides_the_features() -> None:
  np.testing.assert_array_equal(estimate(9, 1), estimate(9, 1))
  assert np.abs(estimate(9, 1) - estimate(9, 2)).max() > 1e-3
  assert RandomFeatures(9, 1) == RandomFeatures(9, 1)


def test_features_of_large_vectors_are_finite() -> None:
  values, log_scale = RandomFeatures(16)(jnp.full((1, 1, 1, K), 60.0))
  assert (values >= 0).all() and values.max() <= 1 and np.isfinite(log_scale).all()
  grad = jax.grad(lambda x: jnp.sum(RandomFeatures(16)(x).values))(jnp.full((1, 1, 1, K), 60.0))
  assert np.isfinite(grad).all()


def test_no_features_are_refused() -> None:
  with pytest.raises(UserError, match=r"RandomFeatures\.features = 0"):
    RandomFeatures(0)
