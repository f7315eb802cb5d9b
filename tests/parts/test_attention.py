"""Attention's wiring; what kernels and patterns do is in tests/contracts."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.attention import Attention, CrossAttention, head_width
from mtm.parts.bias import Bias
from mtm.parts.context import Context
from mtm.parts.kernels._choose import Request
from mtm.parts.kernels.reference import Reference
from mtm.parts.mixers.linformer import Linformer
from mtm.parts.patterns.causal import Causal
from mtm.parts.positions.alibi import Alibi
from tests.contracts.discovered import parameters

X = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
POSITIONS = jnp.tile(jnp.arange(5)[None], (2, 1))


def test_attention_is_its_formula() -> None:
  module = Attention(4, 3, 2, Causal(), scale=0.7, bias=True)
  params = parameters(module.init, X, Context(POSITIONS))
  p = params["params"]

  def project(name: str) -> np.ndarray:
    return np.einsum("bld,dhk->blhk", X, p[name]["kernel"]) + p[name]["bias"]

  q, k, v = project("query"), project("key").repeat(2, 2), project("value").repeat(2, 2)
  s = np.where(np.tril(np.ones((5, 5))), 0.7 * np.einsum("blhk,bshk->bhls", q, k), -np.inf)
  e = np.exp(s - s.max(-1, keepdims=True))
  o = np.einsum("bhls,bshk->blhk", e / e.sum(-1, keepdims=True), v)
  wanted = np.einsum("blhk,hkd->bld", o, p["out"]["kernel"]) + p["out"]["bias"]
  y, _ = module.apply(params, X, Context(POSITIONS))
  np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-5)


def test_own_bias_adds_to_the_shared_one() -> None:
  own, none = Attention(2, 4, position=Alibi(2)), Attention(2, 4)
  params = parameters(none.init, X, Context(POSITIONS))
  shared = jnp.asarray(np.random.default_rng(1).normal(size=(1, 2, 5, 5)), jnp.float32)
  places = jnp.arange(5)[None]
  total = shared + Alibi(2).apply({}, places, places, method="bias")
  total = Context(POSITIONS, bias=Bias(total))
  a, _ = own.apply(params, X, Context(POSITIONS, bias=Bias(shared)))
  b, _ = none.apply(params, X, total)
  np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
  c, _ = none.apply(params, X, Context(POSITIONS, bias=Bias(shared)))
  assert np.abs(a - c).max() > 1e-3


def test_attention_dropout_needs_training() -> None:
  module = Attention(2, 4, dropout=0.5)
  params = parameters(module.init, X, Context(POSITIONS))
  rngs = {"dropout": jax.random.key(0)}
  off, _ = module.apply(params, X, Context(POSITIONS), rngs=rngs)
  on, _ = module.apply(params, X, Context(POSITIONS, train=True), rngs=rngs)
  plain, _ = Attention(2, 4).apply(params, X, Context(POSITIONS))
  np.testing.assert_array_equal(off, plain)
  assert np.abs(on - off).max() > 1e-3


def test_cross_attention_without_a_source_says_so() -> None:
  with pytest.raises(ValueError, match="needs a source"):
    CrossAttention(2, 4).init(jax.random.key(0), X, Context(POSITIONS))


def test_heads_divide_the_width() -> None:
  assert head_width(64, 4) == 16
  with pytest.raises(UserError, match="heads = 5 does not divide embed = 64; 4 heads would"):
    head_width(64, 5)


@dataclasses.dataclass(frozen=True)
class HalfOnly(Reference):
  """A kernel for bfloat16 alone, as cuDNN's."""

  def supports(self, request: Request) -> str | None:
    return None if request.q.dtype == jnp.bfloat16 else "bfloat16 only"


@pytest.mark.parametrize(
  "mixer",
  [Attention(2, 4, kernel=HalfOnly()), Linformer(2, 4, 8, 3, kernel=HalfOnly())],
  ids=["attention", "linformer"],
)
def test_parameters_are_made_whatever_the_kernel_computes_in(mixer: nn.Module) -> None:
  params = parameters(mixer.init, X, Context(POSITIONS))
  y, _ = mixer.apply(params, jnp.bfloat16(X), Context(POSITIONS))
  assert y.dtype == jnp.bfloat16
  with pytest.raises(UserError, match="cannot run this: bfloat16 only"):
    mixer.apply(params, X, Context(POSITIONS))
