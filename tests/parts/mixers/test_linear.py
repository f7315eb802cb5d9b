"""Linear attention against the matrix of all weights: documents, padding, chunks, caches."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.context import Context, Slots
from mtm.parts.mixers.linear import (
  NEVER,
  Features,
  LinearAttention,
  elu_plus_one,
  gather,
  nothing,
  prefix_sums,
)
from mtm.parts.mixers.performer import RandomFeatures
from mtm.parts.positions.alibi import Alibi
from mtm.parts.positions.rotary import Rotary
from mtm.types import BEYOND
from tests.contracts.discovered import parameters

B, L, D, H, K = 2, 11, 6, 2, 4
X = np.random.default_rng(0).normal(size=(B, L, D)).astype(np.float32)
WEIGHT = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
PACKED = [[1, 1, 1, 2, 2, 2, 2, 3, 0, 0, 0], [0, 4, 4, 0, 4, 0, 0, 4, 6, 6, 0]]
ROWS = {
  "none": None,
  "padded": [[1] * L, [0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0]],
  "packed": PACKED,
  "down": [[3, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1], [5] * 4 + [9] * 3 + [7] * 4],
}
FAVOR = RandomFeatures(9)


@functools.cache
def weights(mixer: LinearAttention) -> Any:
  return parameters(mixer.init, jnp.zeros((1, 2, D)), Context(jnp.zeros((1, 2), jnp.int32)))


@functools.cache
def compiled(mixer: LinearAttention) -> Any:
  return jax.jit(mixer.apply)


def run(mixer: LinearAttention, x: Any, segments: Any = None, params: Any = None) -> Any:
  positions = jnp.tile(jnp.arange(x.shape[1])[None], (len(x), 1))
  context = Context(positions, None if segments is None else jnp.asarray(segments))
  return compiled(mixer)(params or weights(mixer), jnp.asarray(x), context)[0]


def quadratic(mixer: LinearAttention, x: Any, segments: Any = None, params: Any = None) -> Any:
  """φ(Q) φ(K)ᵀ under the mask, divided by its sums: the definition."""
  p = (params or weights(mixer))["params"]
  x = jnp.asarray(x)
  q, k, v = (jnp.einsum("bld,dhk->blhk", x, p[n]["kernel"]) for n in ("query", "key", "value"))

  def true(x: jax.Array) -> jax.Array:
    values, log_scale = mixer.feature_map(x)
    return values * jnp.exp(log_scale)[..., None]

  seen = np.ones((1, L, L), bool) if segments is None else None
  if segments is not None:
    ids = np.asarray(segments)
    seen = (ids[:, :, None] == ids[:, None]) & (ids[:, None] > 0)
  if mixer.causal:
    seen = seen & np.tri(L, dtype=bool)[None]
  product = jnp.einsum("blhm,bshm->bhls", true(q), true(k))
  product = jnp.where(jnp.asarray(seen)[:, None], product, 0.0)
  total = jnp.sum(product, axis=-1, keepdims=True)
  share = jnp.where(total > 0, product / jnp.where(total > 0, total, 1.0), 0.0)
  y = jnp.einsum("bhls,bshk->blhk", share, v)
  return jnp.einsum("blhk,hkd->bld", y, p["out"]["kernel"])


CASES = [
  pytest.param(segments, causal, 4, feature_map, id=f"{segments}-{causal}-{name}")
  for segments in ("none", "padded", "packed")
  for causal in (True, False)
  for name, feature_map in (("elu", elu_plus_one), ("favor", FAVOR))
] + [pytest.param("down", True, chunk, elu_plus_one, id=f"chunk-{chunk}") for chunk in (1, 3, 64)]


@pytest.mark.parametrize(("segments", "causal", "chunk", "feature_map"), CASES)
def test_it_is_the_quadratic_form_in_value_and_gradient(
  segments: str, causal: bool, chunk: int, feature_map: Any
) -> None:
  mixer = LinearAttention(H, K, causal=causal, feature_map=feature_map, chunk=chunk)

  def loss(params: Any, x: Any, way: Any) -> tuple[jax.Array, jax.Array]:
    y = way(mixer, x, ROWS[segments], params)
    return jnp.sum(y * WEIGHT), y

  ours, wanted = (
    jax.jit(jax.grad(lambda p, x, w=way: loss(p, x, w), (0, 1), has_aux=True))(weights(mixer), X)
    for way in (run, quadratic)
  )
  # Sums over all tokens of float32 numbers of order 1 to 10.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, wanted)


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bi"])
def test_documents_are_what_they_are_alone_and_padding_is_passed_over(causal: bool) -> None:
  mixer = LinearAttention(H, K, causal=causal, chunk=4)
  y = run(mixer, X, PACKED)
  for row, ids in enumerate(np.array(PACKED)):
    for document in set(ids) - {0}:
      alone = run(mixer, X[row : row + 1, ids == document])
      np.testing.assert_allclose(y[row, ids == document], alone[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(y[row, ids == 0], 0)


@pytest.mark.parametrize("feature_map", [elu_plus_one, FAVOR], ids=["elu", "favor"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bi"])
def test_gradients_of_the_future_and_of_other_documents_are_zero(
  causal: bool, feature_map: Any
) -> None:
  mixer = LinearAttention(H, K, causal=causal, feature_map=feature_map, chunk=4)
  ids = np.array(PACKED)
  jacobian = jax.jit(jax.jacrev(lambda x: jnp.sum(run(mixer, x, PACKED), axis=-1)))(X)
  for row in range(B):
    by = np.abs(jacobian[row, :, row]).max(-1)  # [L, L]
    same = (ids[row][:, None] == ids[row][None]) & (ids[row][None] > 0)
    seen = same & np.tri(L, dtype=bool) if causal else same
    assert (by[~seen] == 0).all()
    assert (by[seen] > 0).all()


def step(mixer: LinearAttention, cache: Any, x: Any, positions: Any) -> Any:
  slots = Slots(jnp.int32(0), jnp.zeros((1, L), jnp.int32))
  context = Context(jnp.asarray(positions), cache=cache, slots=slots)
  return compiled(mixer)(weights(mixer), jnp.asarray(x), context)


MIXERS = [
  pytest.param(LinearAttention(H, K, chunk=4), id="elu"),
  pytest.param(LinearAttention(H, K, feature_map=FAVOR, chunk=4, position=Rotary()), id="favor"),
]


@pytest.mark.parametrize("mixer", MIXERS)
def test_prompts_of_different_lengths_go_on_together(mixer: LinearAttention) -> None:
  """Prompts of 1 and 5 tokens padded to 6, the first with nothing known of it; then the rest."""
  wanted, known = run(mixer, X), (0, 5)
  places = np.arange(6)[None].repeat(2, 0)
  positions = np.where(places < np.array(known)[:, None], places, BEYOND)
  y, aux = step(mixer, mixer.empty_cache(B, L, 0, jnp.float32), X[:, :6], positions)
  np.testing.assert_allclose(y[1, :5], wanted[1, :5], rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(aux.cache.total[0], 0)
  for turn in range(6):
    at = np.array(known) + turn
    y, aux = step(mixer, aux.cache, X[np.arange(2), at][:, None], at[:, None])
    for row in range(B):
      np.testing.assert_allclose(y[row, 0], wanted[row, at[row]], rtol=1e-5, atol=1e-5)


def test_the_cache_does_not_grow_with_the_text() -> None:
  mixer = LinearAttention(H, K, feature_map=FAVOR)
  few, many = (mixer.empty_cache(3, length, 0, jnp.bfloat16) for length in (1, 10**6))
  assert jax.tree.map(jnp.shape, few) == jax.tree.map(jnp.shape, many)
  assert few.total.shape == (3, H, FAVOR.features, K + 1)
  assert few.total.dtype == jnp.float32


def test_memory_grows_with_the_length_and_not_with_its_square() -> None:
  mixer = LinearAttention(1, 8)

  def temporaries(length: int) -> int:
    x = jax.ShapeDtypeStruct((1, length, D), jnp.float32)
    loss = jax.grad(lambda x: jnp.sum(run(mixer, x)))
    return jax.jit(loss).lower(x).compile().memory_analysis().temp_size_in_bytes

  short, long = temporaries(2048), temporaries(8192)
  assert long < 5 * short
  assert long < 8192**2  # a quarter of one matrix of weights


def test_large_exponents_stay_in_range() -> None:
  """Scales whose exponentials float32 cannot hold: only their differences count."""

  def far(x: jax.Array) -> Features:
    return Features(elu_plus_one(x).values, 300.0 + 2 * jnp.sum(x, axis=-1))

  def near(x: jax.Array) -> Features:
    return Features(elu_plus_one(x).values, 2 * jnp.sum(x, axis=-1))

  for causal in (True, False):
    a, b = (
      run(LinearAttention(H, K, causal=causal, feature_map=m, chunk=3), X, PACKED)
      for m in (far, near)
    )
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)  # 300 takes a few bits of the exponent


def test_a_sum_begins_with_nothing() -> None:
  q, k, v = (jnp.asarray(X[..., :K])[:, :, None] for _ in range(3))
  tokens = gather(elu_plus_one, q, k, v)
  memory = nothing(tokens.k_BHLM, K)
  assert (memory.log_scale == NEVER).all()
  y, after = prefix_sums(tokens, memory, 64)
  np.testing.assert_allclose(y[:, 0, -1] @ np.ones(K + 1), after_sum(tokens, after), rtol=1e-5)


def after_sum(tokens: Any, memory: Any) -> Any:
  """The last token's sums, from the memory after it."""
  return np.einsum("bm,bmk->b", tokens.q_BHLM[:, 0, -1], memory.total[:, 0])


@pytest.mark.parametrize("mixer", MIXERS)
def test_half_precision_is_summed_in_float32(mixer: LinearAttention) -> None:
  x = jnp.asarray(X, jnp.bfloat16)
  y, aux = step(mixer, mixer.empty_cache(B, L, 0, jnp.bfloat16), x, np.tile(np.arange(L), (B, 1)))
  assert y.dtype == jnp.bfloat16
  assert aux.cache.total.dtype == jnp.float32
  wanted = run(mixer, np.asarray(x, np.float32))
  np.testing.assert_allclose(y.astype(np.float32), wanted, rtol=0.05, atol=0.05)
  grad = jax.grad(lambda x: jnp.sum(run(mixer, x, PACKED).astype(jnp.float32)))(x)
  assert np.isfinite(grad.astype(np.float32)).all()


def test_what_it_cannot_honour_is_refused() -> None:
  place = jnp.zeros((B, L), jnp.int32)
  mixer, x = LinearAttention(H, K), jnp.asarray(X)
  with pytest.raises(UserError, match="cannot add a bias"):
    mixer.init(jax.random.key(0), x, Context(place, bias=jnp.zeros((1, 1, L, L))))
  with pytest.raises(UserError, match="cannot add a bias"):
    mixer.clone(position=Alibi(H)).init(jax.random.key(0), x, Context(place))
  with pytest.raises(UserError, match="prefix in both directions"):
    mixer.init(jax.random.key(0), x, Context(place, labels={"prefix": place}))
  both = mixer.clone(causal=False)
  with pytest.raises(UserError, match=r"set LinearAttention\.causal"):
    both.empty_cache(B, L, 0, jnp.float32)
  with pytest.raises(UserError, match=r"set LinearAttention\.causal"):
    slots = Slots(jnp.int32(0), jnp.zeros((1, L), jnp.int32))
    both.init(jax.random.key(0), x, Context(place, slots=slots))
