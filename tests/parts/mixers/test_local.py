"""Attention in a ring of chunks against a loop over pairs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.attention import Attention
from mtm.parts.bias import Bias
from mtm.parts.context import Context, Slots
from mtm.parts.mixers.local import Local
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.chunks import Chunks
from tests.contracts.discovered import parameters

B, L, D, H, K = 2, 11, 6, 2, 4
X = np.random.default_rng(0).normal(size=(B, L, D)).astype(np.float32)
SEGMENTS = np.array([[1] * 5 + [2] * 4 + [0] * 2, [0] + [3] * 10])


def context(segments: Any = None, **fields: Any) -> Context:
  segments = None if segments is None else jnp.asarray(segments)
  return Context(jnp.tile(jnp.arange(L)[None], (B, 1)), segments, **fields)


def run(mixer: Any, around: Context) -> tuple[Any, np.ndarray]:
  params = parameters(mixer.init, jnp.asarray(X), around)
  return params["params"], np.asarray(jax.jit(mixer.apply)(params, jnp.asarray(X), around)[0])


def looped(p: Any, mixer: Local, segments: Any = None) -> np.ndarray:
  """The definition, in float64; a chunk that is met twice counts twice."""
  q, k, v = (np.einsum("bld,dhk->blhk", X, p[n]["kernel"]) for n in ("query", "key", "value"))
  known = np.ones((B, L), int) if segments is None else segments
  chunks = (L + -L % (mixer.multiple or mixer.chunk)) // mixer.chunk
  out = np.zeros((B, L, D))
  for b, h, i in np.ndindex(B, H, L):
    sides = range(-mixer.before, mixer.after + 1)
    met = [(i // mixer.chunk + d) % chunks for d in sides]
    times = np.array([met.count(j // mixer.chunk) for j in range(L)])
    times = times * ((known[b] == known[b, i]) & (known[b] > 0))
    share = times * np.exp(q[b, i, h] @ k[b, :, h].T / K**0.5)
    if share.sum():
      out[b, i] += (share / share.sum()) @ v[b, :, h] @ p["out"]["kernel"][h]
  return out


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one", "packed"])
@pytest.mark.parametrize(
  "mixer",
  [Local(H, K, 3), Local(H, K, 2, 1, 1, 4), Local(H, K, 4, 0, 2), Local(H, K, 6, 1, 1)],
  ids=["before", "both", "after", "twice"],
)
def test_it_is_the_loop_over_pairs(mixer: Local, segments: Any) -> None:
  params, y = run(mixer, context(segments))
  real = np.ones((B, L), bool) if segments is None else segments > 0
  np.testing.assert_allclose(y[real], looped(params, mixer, segments)[real], rtol=1e-5, atol=1e-5)


def test_a_row_of_one_chunk_is_attended_to_in_full() -> None:
  _, y = run(Local(H, K, L), context(SEGMENTS))
  _, full = run(Attention(H, K), context(SEGMENTS))
  np.testing.assert_allclose(y[SEGMENTS > 0], full[SEGMENTS > 0], rtol=1e-5, atol=1e-5)


def test_where_time_runs_it_is_attention_under_chunks() -> None:
  """Which is why decoders take that: nobody sees across the ends."""
  _, y = run(Local(H, K, 3, pattern=Causal()), context(SEGMENTS))
  _, other = run(Attention(H, K, pattern=Causal() & Chunks(3)), context(SEGMENTS))
  np.testing.assert_allclose(y[SEGMENTS > 0], other[SEGMENTS > 0], rtol=1e-5, atol=1e-5)


def test_dropout_is_drawn_in_training_only() -> None:
  mixer = Local(H, K, 3, dropout=0.5)
  params, y = run(mixer, context())
  _, plain = run(Local(H, K, 3), context())
  np.testing.assert_array_equal(y, plain)
  rngs = {"dropout": jax.random.key(0)}
  train, _ = mixer.apply({"params": params}, jnp.asarray(X), context(train=True), rngs=rngs)
  assert np.abs(train - y).max() > 1e-2


def test_what_it_cannot_honour_is_refused() -> None:
  with pytest.raises(UserError, match="the pattern Chunks"):
    run(Local(H, K, 3), context(slots=Slots(jnp.int32(0), jnp.arange(L)[None])))
  with pytest.raises(UserError, match="knows no bias"):
    run(Local(H, K, 3), context(bias=Bias(jnp.zeros((1, H, L, L)))))
