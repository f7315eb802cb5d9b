"""Longformer's mixer against softmax over all pairs, and its cost; tests/parity compares it with
the original."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.bias import Bias
from mtm.parts.context import Context, Slots
from mtm.parts.mixers.longformer import Longformer, few
from tests.contracts.discovered import parameters

SEGMENTS = np.array([[1] * 9 + [2] * 4 + [0], [1] * 14])
TOLD = np.array([[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1], [0] * 14])


def dense(mixer: Longformer, params: dict, x: jax.Array, told: np.ndarray) -> np.ndarray:
  """The same by masks, with numpy."""

  def project(name: str) -> np.ndarray:
    kernel, bias = (np.asarray(params[name][part]) for part in ("kernel", "bias"))
    return np.einsum("bld,dhk->bhlk", x, kernel) + bias[None, :, None]

  def attention(q: str, k: str, v: str, seen: np.ndarray) -> np.ndarray:
    scores = np.einsum("bhlk,bhsk->bhls", project(q), project(k)) * mixer.head_dim**-0.5
    weights = np.exp(scores) * seen[:, None]
    weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-30)
    return np.einsum("bhls,bhsk->blhk", weights, project(v))

  places = np.arange(x.shape[1])
  same = (SEGMENTS[:, :, None] == SEGMENTS[:, None]) & (SEGMENTS[:, None] > 0)
  is_global = (told > 0) & (SEGMENTS > 0)
  near = (np.abs(places[:, None] - places) <= mixer.radius)[None] | is_global[:, None]
  local = attention("query", "key", "value", near & same)
  far = attention("query_global", "key_global", "value_global", same)
  y = np.where(is_global[..., None, None], far, local)
  out = params["out"]
  return np.einsum("blhk,hkd->bld", y, out["kernel"]) + np.asarray(out["bias"])


@pytest.mark.parametrize("kernel", ["reference", "blocks"])
def test_it_is_softmax_under_masks(kernel: str) -> None:
  """Packed documents, padding (one token of which is told to be global), empty slots."""
  mixer = Longformer(2, 4, radius=2, slots=5, kernel=kernel, bias=True)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 14, 8)), jnp.float32)
  positions = jnp.tile(jnp.arange(14)[None], (2, 1))
  context = Context(positions, jnp.asarray(SEGMENTS), {"global": jnp.asarray(TOLD)})
  params = parameters(mixer.init, x, context)
  y, aux = jax.jit(mixer.apply)(params, x, context)
  real = SEGMENTS > 0
  # Other orders of summation in float32.
  wanted = dense(mixer, params["params"], x, TOLD)
  np.testing.assert_allclose(np.asarray(y)[real], wanted[real], rtol=1e-5, atol=1e-5)
  assert float(aux.metrics["left_out"]) == 0.0


def test_tokens_without_a_slot_are_like_others_and_counted() -> None:
  mixer = Longformer(2, 4, radius=2, slots=2, bias=True)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 14, 8)), jnp.float32)
  positions = jnp.tile(jnp.arange(14)[None], (2, 1))
  context = Context(positions, jnp.asarray(SEGMENTS), {"global": jnp.asarray(TOLD)})
  params = parameters(mixer.init, x, context)
  y, aux = jax.jit(mixer.apply)(params, x, context)
  first = TOLD * (np.cumsum(TOLD, axis=1) <= 2)
  real = SEGMENTS > 0
  wanted = dense(mixer, params["params"], x, first)
  np.testing.assert_allclose(np.asarray(y)[real], wanted[real], rtol=1e-5, atol=1e-5)
  assert float(aux.metrics["left_out"]) == 0.5


def test_few_are_the_first_that_are_told() -> None:
  found = few(jnp.asarray(TOLD > 0), jnp.asarray(SEGMENTS), 4)
  np.testing.assert_array_equal(found.place, [[0, 4, 11, 14], [14] * 4])
  np.testing.assert_array_equal(found.segment, [[1, 1, 2, 0], [0] * 4])
  x = jnp.arange(28.0).reshape(2, 14)
  np.testing.assert_array_equal(found.of(x), [[0, 4, 11, 0], [0] * 4])
  np.testing.assert_array_equal(found.put(x, found.of(x)), x)


def test_no_array_has_the_size_of_all_pairs() -> None:
  mixer, length = Longformer(2, 4, radius=64, slots=8, first=1), 4096
  x, context = jnp.zeros((1, length, 8)), Context(jnp.arange(length)[None])
  params = jax.eval_shape(mixer.init, jax.random.key(0), x, context)

  def loss(params: dict) -> jax.Array:
    return jnp.sum(mixer.apply(params, x, context)[0])

  compiled = jax.jit(jax.grad(loss)).lower(params).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < 4 * length * length


def test_what_it_cannot_do_is_told() -> None:
  mixer, x, positions = Longformer(2, 4), jnp.zeros((1, 4, 8)), jnp.arange(4)[None]
  slots = Slots(jnp.int32(0), positions)
  with pytest.raises(UserError, match="no cache"):
    jax.eval_shape(mixer.init, jax.random.key(0), x, Context(positions, slots=slots))
  with pytest.raises(UserError, match="no bias"):
    bias = Bias(jnp.zeros((1, 1, 4, 4)))
    jax.eval_shape(mixer.init, jax.random.key(0), x, Context(positions, bias=bias))
