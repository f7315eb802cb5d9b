"""Linformer against full attention, and against a loop over documents."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.attention import Attention
from mtm.parts.context import Context, Slots
from mtm.parts.kernels.dense import Dense
from mtm.parts.kernels.reference import Reference
from mtm.parts.mixers.linformer import Linformer
from tests.contracts.discovered import parameters

B, L, D, H, K, R = 2, 9, 6, 2, 4, 3
X = np.random.default_rng(0).normal(size=(B, L, D)).astype(np.float32)
PACKED = np.array([[1, 1, 1, 2, 2, 2, 2, 0, 0], [0, 4, 4, 0, 4, 6, 6, 6, 0]])
PADDED = np.array([[1, 1, 1, 1, 1, 0, 0, 0, 0], [2] * 9])


def linformer(**fields: Any) -> Linformer:
  return Linformer(H, K, **{"length": L + 1, "rank": R, "kernel": Reference(), **fields})


MIXERS = [
  pytest.param(linformer(), id="plain"),
  pytest.param(linformer(per_head=True), id="per-head"),
  pytest.param(linformer(shared=True, bias=True), id="shared"),
]


def places(segments: np.ndarray) -> np.ndarray:
  """Positions that restart in each document, and pass over padding."""
  out = np.zeros_like(segments)
  for row, ids in enumerate(segments):
    for document in set(ids) - {0}:
      out[row, ids == document] = np.arange((ids == document).sum())
  return out


def around(segments: np.ndarray | None = None, **fields: Any) -> Context:
  if segments is None:
    return Context(jnp.tile(jnp.arange(L)[None], (B, 1)), **fields)
  return Context(jnp.asarray(places(segments)), jnp.asarray(segments), **fields)


def run(mixer: Linformer, context: Context, x: Any = X) -> tuple[Any, np.ndarray]:
  params = parameters(mixer.init, jnp.asarray(X), around())
  return params["params"], np.asarray(jax.jit(mixer.apply)(params, jnp.asarray(x), context)[0])


def looped(p: Any, x: np.ndarray, segments: np.ndarray) -> np.ndarray:
  """The definition in float64, one document after another."""
  out = np.zeros((B, L, D))
  wide = jax.tree.map(lambda w: np.asarray(w, np.float64), p)
  for row, ids in enumerate(segments):
    for document in set(ids) - {0}:
      own = x[row, ids == document].astype(np.float64)
      q, k, v = (
        np.einsum("ld,dhk->lhk", own, wide[n]["kernel"]) + wide[n].get("bias", 0)
        for n in ("query", "key", "value")
      )
      along = [wide["key_length"], wide.get("value_length", wide["key_length"])]
      along = [w if w.ndim == 3 else np.stack([w] * H, axis=1) for w in along]
      k, v = (np.einsum("lhr,lhk->rhk", w[: len(own)], y) for w, y in zip(along, (k, v)))  # noqa: B905
      scores = np.einsum("lhk,rhk->hlr", q, k) / K**0.5
      share = np.exp(scores - scores.max(-1, keepdims=True))
      y = np.einsum("hlr,rhk->lhk", share / share.sum(-1, keepdims=True), v)
      out[row, ids == document] = np.einsum("lhk,hkd->ld", y, wide["out"]["kernel"])
  if "bias" in wide["out"]:
    out += wide["out"]["bias"]
  return out


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("segments", [PADDED, PACKED], ids=["padded", "packed"])
def test_it_is_the_definition_document_by_document(mixer: Linformer, segments: np.ndarray) -> None:
  params, y = run(mixer, around(segments))
  np.testing.assert_allclose(y, looped(params, X, segments), rtol=1e-5, atol=1e-5)


def test_with_the_identity_along_the_length_it_is_full_attention() -> None:
  context, x = around(), jnp.asarray(X)
  full = Attention(H, K, kernel=Reference())
  params = parameters(full.init, x, context)["params"]
  mixer = linformer(length=L, rank=L)
  params |= {"key_length": np.eye(L, dtype=np.float32), "value_length": np.eye(L, dtype=np.float32)}

  def value(mixer: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = mixer.apply({"params": params}, x, context)[0]
    return jnp.sum(y * y), y

  ours, wanted = (
    jax.jit(jax.grad(lambda x, m=m: value(m, x), has_aux=True))(x) for m in (mixer, full)
  )
  # Products with ones and zeros are exact: nothing is left but the order of a few sums.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), ours, wanted)


def test_padding_changes_nothing() -> None:
  mixer = MIXERS[0].values[0]
  context = Context(jnp.arange(5)[None], None)
  params, padded = run(mixer, around(PADDED))
  alone = mixer.apply({"params": params}, jnp.asarray(X[:1, :5]), context)[0]
  np.testing.assert_allclose(padded[:1, :5], alone, rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(padded[0, 5:], 0)
  changed = np.where((PADDED == 0)[..., None], 7.0, X).astype(np.float32)
  np.testing.assert_array_equal(run(mixer, around(PADDED), changed)[1], padded)


def test_gradients_of_other_documents_are_zero() -> None:
  mixer = MIXERS[1].values[0]
  params = parameters(mixer.init, jnp.asarray(X), around())
  out = lambda x: jnp.sum(mixer.apply(params, x, around(PACKED))[0], axis=-1)  # noqa: E731
  jacobian = jax.jit(jax.jacrev(out))(jnp.asarray(X))
  for row, ids in enumerate(PACKED):
    same = (ids[:, None] == ids[None]) & (ids[None] > 0)
    by = np.abs(jacobian[row, :, row]).max(-1)
    assert (by[~same] == 0).all() and (by[same] > 0).all()


def test_dropout_is_drawn_in_training_only() -> None:
  mixer = linformer(dropout=0.5)
  params = parameters(mixer.init, jnp.asarray(X), around())

  def train(seed: int, segments: Any) -> np.ndarray:
    rngs = {"dropout": jax.random.key(seed)}
    return jax.jit(mixer.apply)(params, X, around(segments, train=True), rngs=rngs)[0]

  for segments in (None, PACKED):
    np.testing.assert_array_equal(train(0, segments), train(0, segments))
    assert np.abs(train(0, segments) - train(1, segments)).max() > 1e-2
  off, none = (jax.jit(m.apply)(params, X, around())[0] for m in (mixer, linformer()))
  np.testing.assert_array_equal(off, none)


def test_half_precision_is_finite() -> None:
  x = jnp.asarray(X, jnp.bfloat16)
  for segments in (PADDED, PACKED):
    params, y = run(linformer(kernel=Dense()), around(segments), x)
    assert y.dtype == jnp.bfloat16
    wanted = looped(params, np.asarray(x, np.float32), segments)
    np.testing.assert_allclose(y.astype(np.float32), wanted, rtol=0.1, atol=0.2)


def test_what_it_cannot_honour_is_refused() -> None:
  with pytest.raises(UserError, match="it cannot decode"):
    run(linformer(), around(slots=Slots(jnp.int32(0), jnp.arange(L)[None])))
  with pytest.raises(UserError, match="cannot add a bias"):
    run(linformer(), around(bias=jnp.zeros((1, 1, L, L))))
  with pytest.raises(UserError, match=r"Linformer\.length = 8 and a row is 9 long"):
    linformer(length=8).init(jax.random.key(0), jnp.asarray(X), around())
