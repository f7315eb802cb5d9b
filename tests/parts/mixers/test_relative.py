"""Relative attention against a loop over pairs of tokens."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.bias import Bias
from mtm.parts.context import Context, Slots
from mtm.parts.kernels.reference import Reference
from mtm.parts.mixers.relative import Relative, encodings
from mtm.parts.patterns.causal import Causal
from tests.contracts.discovered import parameters

B, L, D, H, K = 2, 7, 10, 3, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, L, D)).astype(np.float32)
TYPES = RNG.integers(0, 3, (B, L))
SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 3, 3]])


def context(segments: Any = None, types: Any = None, **fields: Any) -> Context:
  segments = None if segments is None else jnp.asarray(segments)
  labels = {} if types is None else {"token_types": jnp.asarray(types)}
  return Context(jnp.tile(jnp.arange(L)[None], (B, 1)), segments, labels, **fields)


def run(mixer: nn.Module, around: Context, x: Any = X) -> tuple[Any, np.ndarray]:
  params = parameters(mixer.init, jnp.asarray(x), around)
  return params["params"], np.asarray(mixer.apply(params, jnp.asarray(x), around)[0])


def wave(distance: int) -> np.ndarray:
  """The encoding of one distance, in float64."""
  angle = distance / 10_000.0 ** (np.arange(0, D, 2) / D)
  return np.concatenate([np.sin(angle), np.cos(angle)])


def looped(
  p: Any, x: np.ndarray, segments: Any = None, types: Any = None, causal: bool = False
) -> np.ndarray:
  """The definition, in float64, one pair after another."""
  out = np.zeros((B, L, D))
  for b in range(B):
    q, k, v = (np.einsum("ld,dhk->lhk", x[b], p[n]["kernel"]) for n in ("query", "key", "value"))
    for h in range(H):
      for i in range(L):
        scores = np.full(L, -np.inf)
        for j in range(L):
          if segments is not None and (segments[b, i] != segments[b, j] or segments[b, j] == 0):
            continue
          if causal and j > i:
            continue
          far = wave(i - j) @ p["distance"]["kernel"][:, h]
          score = (q[i, h] + p["content_bias"][h]) @ k[j, h]
          score += (q[i, h] + p["distance_bias"][h]) @ far
          if types is not None:
            other = int(types[b, i] != types[b, j])
            score += (q[i, h] + p["type_bias"][h]) @ p["type_embedding"][other, h]
          scores[j] = score / K**0.5
        if np.isfinite(scores).any():
          share = np.exp(scores - scores.max())
          out[b, i] += (share / share.sum()) @ v[:, h] @ p["out"]["kernel"][h]
  return out


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one", "packed"])
@pytest.mark.parametrize("types", [None, TYPES], ids=["untyped", "typed"])
@pytest.mark.parametrize("causal", [False, True], ids=["bi", "uni"])
def test_it_is_the_loop_over_pairs(segments: Any, types: Any, causal: bool) -> None:
  mixer = Relative(H, K, **({"pattern": Causal()} if causal else {}))
  params, y = run(mixer, context(segments, types))
  wanted = looped(params, X.astype(np.float64), segments, types, causal)
  np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


def test_every_kernel_gives_the_same() -> None:
  around = context(SEGMENTS, TYPES)
  _, y = run(Relative(H, K), around)
  _, other = run(Relative(H, K, kernel=Reference()), around)
  np.testing.assert_allclose(y, other, rtol=1e-5, atol=1e-5)


def test_a_bias_of_the_stack_is_added() -> None:
  seen = np.where(np.tril(np.ones((L, L))) > 0, 0.0, -1e9)[None, None].astype(np.float32)
  _, biased = run(Relative(H, K), context(None, TYPES, bias=Bias(jnp.asarray(seen))))
  _, causal = run(Relative(H, K, Causal()), context(None, TYPES))
  np.testing.assert_allclose(biased, causal, rtol=1e-5, atol=1e-5)


def test_types_that_it_does_not_know_change_nothing() -> None:
  params, y = run(Relative(H, K, token_types=False), context(None, TYPES))
  assert not {"type_bias", "type_embedding"} & params.keys()
  np.testing.assert_allclose(y, looped(params, X.astype(np.float64)), rtol=1e-5, atol=1e-5)


def test_one_token_sees_itself() -> None:
  around = Context(jnp.zeros((B, 1), jnp.int32))
  params, y = run(Relative(H, K), around, X[:, :1])
  v = np.einsum("bld,dhk->blhk", X[:, :1], params["value"]["kernel"])
  wanted = np.einsum("blhk,hkd->bld", v, params["out"]["kernel"])
  np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


def test_encodings_are_sines_then_cosines() -> None:
  waves = encodings(jnp.array([3, 0, -2]), D, 10_000.0)
  np.testing.assert_allclose(waves, np.stack([wave(3), wave(0), wave(-2)]), rtol=1e-5, atol=1e-6)
  assert encodings(jnp.arange(2), 5, 10_000.0).shape == (2, 5)


def test_dropout_is_drawn_in_training_only() -> None:
  mixer, plain = Relative(H, K, dropout=0.5), Relative(H, K)
  params = parameters(mixer.init, jnp.asarray(X), context())

  def train(seed: int) -> np.ndarray:
    rngs = {"dropout": jax.random.key(seed)}
    return mixer.apply(params, jnp.asarray(X), context(train=True), rngs=rngs)[0]

  np.testing.assert_array_equal(train(0), train(0))
  assert np.abs(train(0) - train(1)).max() > 1e-2
  off, none = (m.apply(params, jnp.asarray(X), context())[0] for m in (mixer, plain))
  np.testing.assert_array_equal(off, none)


def test_it_does_not_decode() -> None:
  slots = Slots(jnp.int32(0), jnp.arange(L)[None])
  with pytest.raises(UserError, match="cannot decode"):
    run(Relative(H, K), context(slots=slots))
