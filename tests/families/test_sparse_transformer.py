"""The Sparse Transformer computes what a dense one does under the same mask."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtm.families.sparse_transformer import sparse_transformer
from mtm.interop._base import shapes
from mtm.parts.kernels.blocks import Blocks
from mtm.parts.patterns import Pattern, published
from tests.contracts.discovered import batch_for, parameters

HEADS = 4
KINDS = ("strided", "fixed", "strided_by_head", "fixed_by_head")


def drawn(kind: str, stride: int, summaries: int) -> Pattern:
  return {
    "strided": lambda: published.sparse_strided(stride),
    "fixed": lambda: published.sparse_fixed(stride, summaries),
    "strided_by_head": lambda: published.sparse_strided_by_head(stride, HEADS),
    "fixed_by_head": lambda: published.sparse_fixed_by_head(stride, summaries, HEADS),
  }[kind]()


def mask(kind: str, length: int, stride: int, summaries: int) -> np.ndarray:
  """Who sees whom as §4.3 defines it, pair by pair, bool `[heads, length, length]`."""
  near, far = np.zeros((2, length, length), bool)
  for i in range(length):
    for j in range(i + 1):
      if kind.startswith("strided"):
        near[i, j], far[i, j] = i - j < stride, (i - j) % stride == 0
      else:
        near[i, j], far[i, j] = i // stride == j // stride, j % stride >= stride - summaries
  halves = (near, far) if kind.endswith("head") else (near | far,) * 2
  return np.repeat(np.stack(halves), HEADS // 2, axis=0)


def dense(params: Any, tokens: np.ndarray, seen: np.ndarray) -> jax.Array:
  """The logits of the model by its formulas, with whole matrices of scores."""

  def normed(x: jax.Array, p: Any) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]

  tower = params["decoder"]
  x = params["tokens"]["embedding"][tokens]
  x = x + tower["position"]["table"]["embedding"][: tokens.shape[1]]
  for number in range(2):
    p = jax.tree.map(lambda leaf, n=number: leaf[n], tower["stack"]["period_0"])
    m, c, y = p["mixer"], p["channel"], normed(x, p["mixer_norm"])
    q, k, v = (
      jnp.einsum("bld,dhk->bhlk", y, m[n]["kernel"]) + m[n]["bias"][:, None]
      for n in ("query", "key", "value")
    )
    s = jnp.exp(jnp.einsum("bhlk,bhsk->bhls", q, k) * q.shape[-1] ** -0.5)
    s = jnp.where(seen, s, 0.0)
    total = s.sum(-1, keepdims=True)
    s = jnp.where(total > 0, s / jnp.where(total > 0, total, 1.0), 0.0)
    y = jnp.einsum("bhls,bhsk->blhk", s, v)
    x = x + jnp.einsum("blhk,hkd->bld", y, m["out"]["kernel"]) + m["out"]["bias"]
    y = normed(x, p["channel_norm"]) @ c["wi"]["kernel"] + c["wi"]["bias"]
    y = y / (1 + jnp.exp(-1.702 * y))
    x = x + y @ c["wo"]["kernel"] + c["wo"]["bias"]
  return normed(x, tower["final_norm"]) @ params["head"]["logits_dense"]["kernel"]


@settings(max_examples=4, deadline=None)
@given(
  kind=st.sampled_from(KINDS), length=st.integers(2, 19), stride=st.integers(1, 7),
  summaries=st.integers(1, 7),
)  # fmt: skip
def test_it_is_a_dense_computation_under_the_same_mask(
  kind: str, length: int, stride: int, summaries: int
) -> None:
  """Logits and gradients, by the engine that looks only where the pattern does."""
  summaries = min(summaries, stride)
  pattern, seen = drawn(kind, stride, summaries), mask(kind, length, stride, summaries)
  model = sparse_transformer(
    2, 16, HEADS, 40, 32, pattern, mlp=24, dropout=0.0, kernel=Blocks(block=4, scores=256)
  )
  batch = batch_for(model, rows=1, length=length)
  params = parameters(model.init, batch)
  ours = lambda p: model.apply(p, batch).logits  # noqa: E731
  theirs = lambda p: dense(p, batch["decoder_input_tokens"], jnp.asarray(seen))  # noqa: E731

  def both(logits: Any) -> Any:
    def loss(p: Any) -> Any:
      values = logits(p)
      return jnp.sum(jnp.sin(values)), values

    return jax.jit(jax.grad(loss, has_aux=True))(params)

  with jax.numpy_dtype_promotion("standard"):
    for a, b in zip(*map(jax.tree.leaves, (both(ours), both(theirs))), strict=True):
      # float32 sums in other orders; gradients are sums over tokens.
      np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_hides_something(kind: str) -> None:
  """So the property above is not one of causal attention."""
  assert (mask(kind, 19, 4, 1).sum((1, 2)) < 19 * 20 / 2).any()


def test_a_fresh_model_says_nothing_and_its_size_is_near_the_published_one() -> None:
  """The head begins at 0; enwik8's model has 95M parameters in the paper's table 1."""
  model = sparse_transformer(2, 16, HEADS, 40, 32)
  batch = batch_for(model)
  logits = jax.jit(lambda key: model.apply(model.init(key, batch), batch).logits)
  np.testing.assert_array_equal(logits(jax.random.key(0)), 0)
  count = sum(map(math.prod, shapes(sparse_transformer(30, 512, 8, 256, 12288)).values()))
  assert count == pytest.approx(95e6 + 12288 * 512, rel=0.02)
