"""Routing: full attention in one cluster, a loop over clusters, and k-means by gradient descent."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.context import Context, Slots
from mtm.parts.kernels import prepare
from mtm.parts.kernels.reference import Reference
from mtm.parts.mixers.routing import Routing, distances, mean_nearest, normed, on_unit_ball
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from tests.contracts.discovered import parameters

B, L, D, H, K = 2, 9, 6, 2, 4
X = np.random.default_rng(0).normal(size=(B, L, D)).astype(np.float32)
PACKED = np.array([[1, 1, 1, 2, 2, 2, 2, 0, 0], [0, 4, 4, 0, 4, 6, 6, 6, 0]])
KINDS = pytest.mark.parametrize("causal", [True, False], ids=["causal", "bi"])


def routing(clusters: int = 2, window: int | None = 4, **fields: Any) -> Routing:
  return Routing(H, K, clusters, window, **{"kernel": Reference(), **fields})


def around(segments: np.ndarray | None = None, **fields: Any) -> Context:
  segments = None if segments is None else jnp.asarray(segments)
  return Context(jnp.tile(jnp.arange(L)[None], (B, 1)), segments, **fields)


def weights(mixer: Routing) -> Any:
  return parameters(mixer.init, jnp.asarray(X), around())


@functools.cache
def compiled(mixer: Routing) -> Any:
  return jax.jit(mixer.apply)


def run(mixer: Routing, context: Context, x: Any = X, params: Any = None) -> tuple[Any, Any]:
  return compiled(mixer)(params or weights(mixer), jnp.asarray(x), context)


def projected(mixer: Routing, x: Any, params: Any) -> list[jax.Array]:
  """Queries, keys and values, `[batch, length, heads, head_dim]`, as they are compared."""
  names = ("query", "query" if mixer.causal else "key", "value")
  every = [jnp.einsum("bld,dhk->blhk", x, params["params"][n]["kernel"]) for n in names]
  return [normed(every[0]), normed(every[1]), every[2]]


@KINDS
@pytest.mark.parametrize("segments", [None, PACKED], ids=["one", "packed"])
def test_one_cluster_of_all_tokens_is_full_attention(causal: bool, segments: Any) -> None:
  mixer, context = routing(1, L, causal=causal), around(segments)
  params = weights(mixer)

  def full(x: jax.Array) -> jax.Array:
    q, k, v = projected(mixer, x, params)
    ids = None if segments is None else (jnp.asarray(segments),) * 2
    pattern = Causal() if causal else Full()
    engine, request = prepare(q, k, v, pattern, segment_ids=ids, kernel=Reference())
    return jnp.einsum("blhk,hkd->bld", engine(request), params["params"]["out"]["kernel"])

  def ours(x: jax.Array) -> jax.Array:
    return mixer.apply(params, x, context)[0]

  def value(way: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = way(x)
    return jnp.sum(y * jnp.cos(y)), y

  a, b = (jax.jit(jax.grad(lambda x, w=w: value(w, x), has_aux=True))(X) for w in (ours, full))
  # The same sums; a gather and a scatter around them.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), a, b)


def looped(mixer: Routing, params: Any, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The definition, cluster by cluster in float64; and in how many clusters each token is."""
  q, k, v = (np.asarray(x, np.float64) for x in projected(mixer, jnp.asarray(X), params))
  centroid = np.asarray(params["params"]["centroids"], np.float64)
  total, count = np.zeros((B, L, H, K)), np.zeros((B, L, H))
  for b in range(B):
    real = np.flatnonzero(segments[b] > 0)
    for h in range(H):
      for c in range(mixer.clusters):
        # On the unit ball the nearest are those with the largest product.
        chosen = []
        for x in (q, k):
          order = real[np.argsort(-(x[b, real, h] @ centroid[h, c]), kind="stable")]
          chosen.append(np.sort(order[: mixer.window]))
        for i in chosen[0]:
          keys = [
            j for j in chosen[1]
            if segments[b, i] == segments[b, j] and (j <= i or not mixer.causal)
          ]  # fmt: skip
          count[b, i, h] += 1
          if keys:
            share = np.exp(k[b, keys, h] @ q[b, i, h] / K**0.5)
            total[b, i, h] += share @ v[b, keys, h] / share.sum()
  y = total / np.maximum(count, 1)[..., None]
  return np.einsum("blhk,hkd->bld", y, params["params"]["out"]["kernel"]), count


@KINDS
@pytest.mark.parametrize("segments", [np.ones((B, L), int), PACKED], ids=["one", "packed"])
def test_it_is_the_loop_over_clusters(causal: bool, segments: np.ndarray) -> None:
  mixer = routing(3, 3, causal=causal)
  params = weights(mixer)
  y, aux = run(mixer, around(segments), params=params)
  wanted, count = looped(mixer, params, segments)
  np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(aux.metrics["left_out"], (count == 0)[segments > 0].mean(), rtol=1e-6)


def test_tokens_in_no_cluster_get_zero() -> None:
  mixer = routing(1, 4)
  _, count = looped(mixer, weights(mixer), np.ones((B, L), int))
  y, aux = run(mixer, around())
  nowhere = (count == 0).all(-1)
  assert nowhere.any() and not nowhere.all()
  np.testing.assert_array_equal(np.asarray(y)[nowhere], 0)
  assert (np.abs(np.asarray(y)[~nowhere]).max(-1) > 0).all()
  np.testing.assert_allclose(aux.metrics["left_out"], 5 / 9, rtol=1e-6)


@KINDS
def test_gradients_of_the_future_and_of_other_documents_are_zero(causal: bool) -> None:
  mixer = routing(2, 6, causal=causal)
  params = weights(mixer)
  out = lambda x: jnp.sum(mixer.apply(params, x, around(PACKED))[0], axis=-1)  # noqa: E731
  jacobian = jax.jit(jax.jacrev(out))(jnp.asarray(X))
  for row, ids in enumerate(PACKED):
    seen = (ids[:, None] == ids[None]) & (ids[None] > 0)
    seen = seen & np.tri(L, dtype=bool) if causal else seen
    by = np.abs(jacobian[row, :, row]).max(-1)
    assert (by[~seen] == 0).all() and by[seen].any()


def test_a_later_token_says_nothing_but_may_push_an_earlier_one_out() -> None:
  """What the docstring warns of, both halves."""
  mixer = routing(1, 4)
  params = weights(mixer)
  _, before = looped(mixer, params, np.ones((B, L), int))
  said, outcomes = run(mixer, around(), params=params)[0], set()
  for seed in range(8):
    x = X.copy()
    x[:, -1] = np.random.default_rng(seed).normal(size=(B, D))
    other = run(mixer, around(), x, params)[0]
    changed = np.abs(other - said).max(-1)[:, :-1]
    q = np.asarray(projected(mixer, jnp.asarray(x), params)[0])
    near = np.einsum("blhk,hk->blh", q, params["params"]["centroids"][:, 0])
    after = np.zeros((B, L, H), int)
    np.put_along_axis(after, np.argsort(-near, axis=1, kind="stable")[:, :4], 1, axis=1)
    for row in range(B):
      same = bool((after[row, :-1] == before[row, :-1]).all())
      outcomes.add(same)
      assert (changed[row].max() == 0) == same
  assert outcomes == {True, False}


@KINDS
def test_padding_changes_nothing(causal: bool) -> None:
  mixer = routing(2, 4, causal=causal)
  params = weights(mixer)
  ids = np.array([[1] * 6 + [0] * 3] * B)
  y, aux = run(mixer, around(ids), params=params)
  alone, own = run(mixer, Context(jnp.zeros((B, 6), jnp.int32)), X[:, :6], params)
  np.testing.assert_allclose(y[:, :6], alone, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(y[:, 6:], 0)
  for a, b in ((aux.losses, own.losses), (aux.metrics, own.metrics)):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), a, b)


def test_a_gradient_step_is_a_step_of_online_k_means() -> None:
  mixer, rate = routing(3, 4, clustering=0.5), 2.0
  params = nn.meta.unbox(mixer.init(jax.random.key(0), jnp.asarray(X), around()))

  def loss(params: Any) -> jax.Array:
    return mixer.apply(params, jnp.asarray(X), around())[1].losses["clustering"]

  grads = jax.jit(jax.grad(loss))(params)["params"]
  old = np.asarray(params["params"]["centroids"])
  new = old - rate * np.asarray(grads.pop("centroids"))
  # The model is not pulled to the centroids.
  assert all((leaf == 0).all() for leaf in jax.tree.leaves(grads))
  q = np.asarray(projected(mixer, jnp.asarray(X), params)[0]).reshape(B * L, H, K) / K**0.5
  for h in range(H):
    nearest = ((q[:, h, None] - old[h][None]) ** 2).sum(-1).argmin(-1)
    for c in range(3):
      share = 0.5 * (nearest == c).sum() / (B * L * H)
      mean = q[nearest == c, h].mean(0) if share else 0.0
      wanted = (1 - rate * share) * old[h, c] + rate * share * mean
      np.testing.assert_allclose(new[h, c], wanted, rtol=1e-5, atol=1e-6)


def test_centroids_come_to_the_middle_of_clusters() -> None:
  rng = np.random.default_rng(0)
  middle = np.asarray(normed(jnp.asarray(rng.normal(size=(3, 16)), jnp.float32)))
  which = rng.integers(0, 3, 60)
  x = jnp.asarray(middle[which] + 0.05 * rng.normal(size=(60, 16)), jnp.float32)
  x = normed(x)[None, None]
  centroid = middle[None] / 4 + 0.1 * rng.normal(size=(1, 3, 16)).astype(np.float32)
  step = jax.jit(jax.grad(lambda c: mean_nearest(distances(x, c), None)))
  for _ in range(60):
    centroid = centroid - 1.0 * step(centroid)
  wanted = np.stack([np.asarray(x)[0, 0, which == c].mean(0) for c in range(3)]) / 4
  np.testing.assert_allclose(centroid[0], wanted, atol=1e-4)


def test_fresh_centroids_lie_on_the_unit_ball() -> None:
  centroid = on_unit_ball(jax.random.key(0), (2, 5, 8))
  np.testing.assert_allclose(np.linalg.norm(centroid, axis=-1), 1, rtol=1e-4)
  np.testing.assert_allclose(centroid.mean(-1), 0, atol=1e-6)


def test_without_a_window_clusters_share_the_row() -> None:
  a, b = (run(routing(4, window), around())[0] for window in (None, 3))
  np.testing.assert_array_equal(a, b)


@KINDS
def test_half_precision_is_finite(causal: bool) -> None:
  mixer, x = routing(2, 5, causal=causal), jnp.asarray(X, jnp.bfloat16)
  y, aux = run(mixer, around(PACKED), x)
  assert y.dtype == jnp.bfloat16 and aux.losses["clustering"].dtype == jnp.float32
  assert np.isfinite(y.astype(np.float32)).all() and np.isfinite(aux.losses["clustering"])


def test_dropout_is_drawn_in_training_only() -> None:
  mixer = routing(dropout=0.5)
  params = weights(mixer)

  def train(seed: int) -> np.ndarray:
    rngs = {"dropout": jax.random.key(seed)}
    return jax.jit(mixer.apply)(params, X, around(train=True), rngs=rngs)[0]

  np.testing.assert_array_equal(train(0), train(0))
  assert np.abs(train(0) - train(1)).max() > 1e-2
  np.testing.assert_array_equal(run(mixer, around())[0], run(routing(), around())[0])


def test_what_it_cannot_honour_is_refused() -> None:
  with pytest.raises(UserError, match="it cannot decode"):
    run(routing(), around(slots=Slots(jnp.int32(0), jnp.arange(L)[None])))
  with pytest.raises(UserError, match="cannot add a bias"):
    run(routing(), around(bias=jnp.zeros((1, 1, L, L))))
  with pytest.raises(UserError, match="prefix in both directions"):
    run(routing(), around(labels={"prefix": jnp.zeros((B, L), jnp.int32)}))
  with pytest.raises(UserError, match="at least one of each"):
    weights(routing(0))
