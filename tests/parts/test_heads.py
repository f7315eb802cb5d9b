"""Heads: hidden states to float32 logits."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.parts.heads import (
  DenseClassHead,
  DenseHead,
  MaskedHead,
  PairHead,
  PooledClassHead,
  TiedHead,
  TokenClassHead,
)
from mtm.parts.linear import Embed
from mtm.parts.norm import LayerNorm
from tests.contracts.discovered import parameters


class Headed(nn.Module):
  """A head with its table."""

  tokens: Embed
  head: nn.Module

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.head(x, self.tokens)


X = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)


def run(head: nn.Module, x: Any = X) -> tuple[Any, jax.Array]:
  module = Headed(Embed(11, 8), head)
  params = parameters(module.init, x)
  return params["params"], module.apply(params, x)


def test_tied_head_scales_the_states_first() -> None:
  params, logits = run(TiedHead(0.5))
  np.testing.assert_allclose(
    logits, 0.5 * X @ params["tokens"]["embedding"].T, rtol=1e-5, atol=1e-6
  )


def test_dense_head_has_a_projection_of_its_own() -> None:
  params, logits = run(DenseHead(13))
  assert "tokens" not in params, "the table is not read"
  wanted = X @ params["head"]["logits_dense"]["kernel"]
  np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-6)


def test_masked_head_is_bert_s() -> None:
  params, logits = run(MaskedHead(LayerNorm, jax.nn.relu))
  p = params["head"]
  h = np.maximum(X @ p["dense"]["kernel"] + p["dense"]["bias"], 0)
  h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)
  h = h * p["norm"]["scale"] + p["norm"]["bias"]
  wanted = h @ params["tokens"]["embedding"].T + p["bias"]
  np.testing.assert_allclose(logits, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("head", [TiedHead(), DenseHead(11), MaskedHead(LayerNorm)])
def test_logits_are_float32(head: nn.Module) -> None:
  assert run(head, jnp.asarray(X, jnp.bfloat16))[1].dtype == jnp.float32


def test_masked_head_leads_to_the_width_of_the_table() -> None:
  module = Headed(Embed(11, 5), MaskedHead(LayerNorm))
  params = parameters(module.init, X)
  assert params["params"]["head"]["dense"]["kernel"].shape == (8, 5)
  assert module.apply(params, X).shape == (2, 3, 11)


def test_token_class_head_is_electra_s() -> None:
  params, logits = run(TokenClassHead(2, jax.nn.relu), jnp.asarray(X, jnp.bfloat16))
  assert "tokens" not in params, "the table is not read"
  assert logits.dtype == jnp.float32
  p = params["head"]
  h = np.maximum(X @ p["dense"]["kernel"] + p["dense"]["bias"], 0)
  wanted = h @ p["out"]["kernel"] + p["out"]["bias"]
  np.testing.assert_allclose(logits, wanted, rtol=2e-2, atol=2e-2)


def test_pair_head_is_bert_s() -> None:
  module = Headed(Embed(11, 8), PairHead(MaskedHead(LayerNorm), 8))
  params = parameters(module.init, X)
  p = params["params"]["head"]
  plain = Headed(Embed(11, 8), MaskedHead(LayerNorm))
  same = {"params": {"tokens": params["params"]["tokens"], "head": p["masked"]}}
  np.testing.assert_array_equal(module.apply(params, X), plain.apply(same, X))
  logits = module.apply(params, X, method=lambda headed, x: headed.head.pair(x))
  h = np.tanh(X[:, 0] @ p["pooler"]["kernel"] + p["pooler"]["bias"])
  wanted = h @ p["relation"]["kernel"] + p["relation"]["bias"]
  np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-5)


def test_pooled_class_head_is_bert_s() -> None:
  params, logits = run(PooledClassHead(3, dropout=0.5))
  p = params["head"]
  h = np.tanh(X @ p["pooler"]["kernel"] + p["pooler"]["bias"])
  wanted = h @ p["out"]["kernel"] + p["out"]["bias"]
  np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-5)
  assert "tokens" not in params, "the table is not read"


def test_dense_class_head_is_roberta_s() -> None:
  params, logits = run(DenseClassHead(3, dropout=0.5, activation=jax.nn.relu))
  p = params["head"]
  h = np.maximum(X @ p["dense"]["kernel"] + p["dense"]["bias"], 0)
  wanted = h @ p["out"]["kernel"] + p["out"]["bias"]
  np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", [PooledClassHead(3, dropout=0.5), DenseClassHead(3, dropout=0.5)])
def test_class_heads_drop_in_training_only(head: nn.Module) -> None:
  params, still = run(head)
  module = Headed(Embed(11, 8), head)

  def drawn(seed: int) -> Any:
    rngs = {"dropout": jax.random.key(seed)}
    call = lambda m, x: m.head(x, m.tokens, True)  # noqa: E731
    return module.apply({"params": params}, X, method=call, rngs=rngs)

  np.testing.assert_array_equal(drawn(0), drawn(0))
  assert np.abs(drawn(0) - drawn(1)).max() > 1e-2
  assert np.abs(drawn(0) - still).max() > 1e-2
