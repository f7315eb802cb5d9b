"""N-stream attention against a loop over queries, and the stack around it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.bias import Bias
from mtm.parts.context import Context, Slots
from mtm.parts.linear import Embed
from mtm.parts.mixers.ngram import Ngram, NgramStack
from mtm.parts.norm import LayerNorm
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Block, Stack
from tests.contracts.discovered import parameters

B, T, L, D, H, K = 2, 4, 6, 10, 3, 4
MIXER = Ngram(H, K, streams=T, buckets=5, max_distance=4)
BUCKETS = (0, 1, 2, 3, 4, 4, 4)  # of distances 0, 1, ...: two of their own, then by logarithm
SEGMENTS = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]])
POSITIONS = np.array([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]])
X = np.random.default_rng(0).normal(size=(B, T * L, D)).astype(np.float32)


def context(positions: Any = None, segments: Any = None, streams: int = T, **fields: Any) -> Any:
  positions = np.tile(np.arange(L), (B, 1)) if positions is None else positions
  segments = None if segments is None else jnp.asarray(np.tile(segments, (1, streams)))
  return Context(jnp.asarray(np.tile(positions, (1, streams))), segments, **fields)


def keys_of(row: int, stream: int, place: int, packed: bool) -> list[int]:
  """The rows of the main stream that a query sees."""
  document = SEGMENTS[row] if packed else np.ones(L, int)
  mine = [k for k in range(L) if document[k] == document[place] and document[k] > 0]
  last = place - max(stream - 1, 0)
  return [k for k in mine if k <= place and (k <= last or k == mine[0])]


def looped(params: Any, x: np.ndarray, packed: bool) -> np.ndarray:
  """One query after another, in float64."""
  x = x.astype(np.float64).reshape(B, T, L, D)

  def project(name: str) -> np.ndarray:
    return np.einsum("btld,dhk->btlhk", x, params[name]["kernel"]) + params[name]["bias"]

  q, k, v, w = (project(name) for name in ("query", "key", "value", "distance"))
  y = np.zeros((B, T, L, H, K))
  for b, t, place, h in np.ndindex(B, T, L, H):
    seen = keys_of(b, t, place, packed)
    own = [(t, place)] if t > 0 else []
    pairs = [(0, key, place + min(t, 1) - key) for key in seen] + [(*pair, 0) for pair in own]
    if not pairs:
      continue
    scores = [
      q[b, t, place, h] @ k[b, s, key, h] / K**0.5 + w[b, t, place, BUCKETS[far], h]
      for s, key, far in pairs
    ]
    p = np.exp(scores - np.max(scores))
    p /= p.sum()
    y[b, t, place, h] = sum(p * v[b, s, key, h] for p, (s, key, _) in zip(p, pairs, strict=True))
  out = np.einsum("btlhk,hkd->btld", y, params["out"]["kernel"]) + params["out"]["bias"]
  return out.reshape(B, T * L, D)


@pytest.mark.parametrize("packed", [False, True])
def test_it_is_the_loop(packed: bool) -> None:
  around = context(POSITIONS, SEGMENTS) if packed else context()
  params = parameters(MIXER.init, X, around)
  y = np.asarray(jax.jit(MIXER.apply)(params, X, around)[0])
  wanted = looped(params["params"], X, packed)
  np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)


def test_a_stream_sees_the_main_one_until_its_lag_and_itself() -> None:
  """And so nothing of the future, and no other stream."""
  params = parameters(MIXER.init, X, context())

  def summed(x: jax.Array) -> jax.Array:
    return jnp.sum(MIXER.apply(params, x, context())[0], axis=0)

  jacobian = jax.jit(jax.jacrev(summed))(X)  # [T·L, D, B, T·L, D]
  by = np.asarray(jnp.max(jnp.abs(jacobian), axis=(1, 2, 4))).reshape(T, L, T, L)
  wanted = np.zeros((T, L, T, L), bool)
  for t, place in np.ndindex(T, L):
    wanted[t, place, 0, keys_of(1, t, place, packed=False)] = True
    wanted[t, place, t, place] = True
  np.testing.assert_array_equal(by > 0, wanted)


def test_cached_is_uncached_in_every_stream() -> None:
  params = parameters(MIXER.init, X, context())
  whole = MIXER.apply(params, X, context())[0].reshape(B, T, L, D)
  x, cache = X.reshape(B, T, L, D), MIXER.empty_cache(B, L + 2, 0, jnp.float32)
  assert {leaf.shape for leaf in jax.tree.leaves(cache)} == {(B, H, L + 2, K)}
  step = jax.jit(lambda x, around: MIXER.apply(params, x, around))
  for start, end in ((0, 3), (3, 4), (4, 6)):
    slots = Slots(jnp.int32(start), jnp.arange(L + 2)[None])
    here = np.tile(np.arange(start, end), (B, 1))
    y, aux = step(x[:, :, start:end].reshape(B, -1, D), context(here, cache=cache, slots=slots))
    cache = aux.cache
    y = y.reshape(B, T, end - start, D)
    np.testing.assert_allclose(y, whole[:, :, start:end], rtol=1e-5, atol=1e-5)


def test_dropout_is_drawn_in_training_only() -> None:
  mixer = Ngram(H, K, streams=T, dropout=0.5)
  params = parameters(mixer.init, X, context())

  def train(seed: int) -> np.ndarray:
    return mixer.apply(params, X, context(train=True), rngs={"dropout": jax.random.key(seed)})[0]

  np.testing.assert_array_equal(train(0), train(0))
  assert np.abs(train(0) - train(1)).max() > 1e-2
  off, none = (m.apply(params, X, context())[0] for m in (mixer, Ngram(H, K, streams=T)))
  np.testing.assert_array_equal(off, none)


def test_a_bias_of_its_tower_is_refused() -> None:
  with pytest.raises(UserError, match="no bias"):
    MIXER.init(jax.random.key(0), X, context(bias=Bias(jnp.zeros((1, 1, 1, 1)))))


def stack(given: int) -> NgramStack:
  blocks = (Block(Ngram(H, K, streams=1 + given), None, LayerNorm),)
  return NgramStack(Stack(blocks, 2), Learned(L + 1, D), Embed(3, D), given, LayerNorm)


def test_a_stream_is_what_it_is_alone() -> None:
  tokens, around = X[:, :L], context(streams=1)
  params = parameters(stack(3).init, tokens, around)
  alone, together = (jax.jit(stack(n).apply)(params, tokens, around)[0] for n in (1, 3))
  assert alone.shape == (B, L, D) and together.shape == (B, 3 * L, D)
  np.testing.assert_allclose(together[:, :L], alone, rtol=1e-5, atol=1e-5)
  assert np.abs(together[:, L : 2 * L] - alone).max() > 1e-2


def test_the_stack_gives_a_stream_no_token_after_its_place() -> None:
  tokens, around = X[:1, :L], context(np.arange(L)[None], streams=1)
  params = parameters(stack(3).init, tokens, around)
  weight = np.random.default_rng(1).normal(size=D).astype(np.float32)

  def one(x: jax.Array, row: Any) -> jax.Array:
    return (stack(3).apply(params, x, around)[0][0, row] * weight).sum()

  # One row after another: XLA's CPU compiler gets the gradient of a norm wrong under vmap.
  gradient = jax.jit(jax.grad(one))
  for stream, place in np.ndindex(3, L):
    by = np.abs(gradient(tokens, stream * L + place)).max(axis=(0, 2))
    seen = [t <= place and (t <= place - stream or t == 0) for t in range(L)]
    np.testing.assert_array_equal(by > 0, seen, err_msg=f"stream {stream}, place {place}")


def test_the_stack_and_its_streams_know_packed_documents() -> None:
  around = Context(jnp.asarray(POSITIONS), jnp.asarray(SEGMENTS))
  params = parameters(stack(2).init, X[:, :L], around)
  whole = jax.jit(stack(2).apply)(params, X[:, :L], around)[0].reshape(B, 2, L, D)
  for start, end in ((0, 3), (3, 5)):
    here = Context(jnp.arange(end - start)[None])
    alone = jax.jit(stack(2).apply)(params, X[:1, start:end], here)[0].reshape(1, 2, -1, D)
    np.testing.assert_allclose(whole[:1, :, start:end], alone, rtol=1e-5, atol=1e-5)
