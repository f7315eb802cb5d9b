"""Token mixers and channel mixers: nothing leaks from the future, and a cache changes nothing."""

from __future__ import annotations

import pkgutil
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mtm.parts.mixers
from mtm.parts.attention import Attention, CrossAttention
from mtm.parts.context import Context, Slots, Source
from mtm.parts.mlp import Mlp
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.window import Window
from mtm.parts.positions.rotary import Rotary
from mtm.parts.positions.t5_bias import T5Bias
from tests.contracts.discovered import examples, parameters

B, L, D = 2, 7, 16

MIXERS = [
  pytest.param(Attention(4, 8, pattern=Causal()), id="attention"),
  pytest.param(Attention(4, 8, 2, Causal(), Rotary(), bias=True), id="grouped-rotary"),
  pytest.param(
    Attention(4, 4, 1, Causal() & Window(2, 0), T5Bias(4, False), scale=1.0), id="window-t5"
  ),
  *(examples(mtm.parts.mixers.__name__, 1) if list(pkgutil.iter_modules(mtm.parts.mixers.__path__))
    else []),
]  # fmt: skip
# A mixer says by a field `causal` whether it looks ahead. One that has neither that nor a cache
# cannot decode: it may.
CACHED = [
  mixer
  for mixer in MIXERS
  if hasattr(mixer.values[0], "empty_cache") and getattr(mixer.values[0], "causal", True)
]
CAUSAL = CACHED + [
  mixer
  for mixer in MIXERS
  if getattr(mixer.values[0], "causal", False) and not hasattr(mixer.values[0], "empty_cache")
]
CHANNELS = [
  pytest.param(Mlp(24), id="mlp"),
  pytest.param(Mlp(24, nn.silu, gated=True, bias=True), id="gated"),
]


def setting(module: nn.Module) -> tuple[Any, jax.Array, Context]:
  """Parameters, an input and its context."""
  x = jnp.asarray(np.random.default_rng(0).normal(size=(B, L, D)), jnp.float32)
  context = Context(jnp.tile(jnp.arange(L)[None], (B, 1)))
  return parameters(module.init, x, context), x, context


def influence(module: nn.Module, context: Context, params: Any, x: jax.Array) -> np.ndarray:
  """`[L, L]`: the largest |d out[t] / d x[s]| over features and examples."""

  def out(x: jax.Array) -> jax.Array:
    return module.apply(params, x, context)[0]

  jacobian = jax.jit(jax.jacrev(lambda x: jnp.sum(out(x), axis=0)))(x)  # [L, D, B, L, D]
  return np.asarray(jnp.max(jnp.abs(jacobian), axis=(1, 2, 4)))


@pytest.mark.parametrize("mixer", CAUSAL)
def test_gradient_of_the_future_is_zero(mixer: nn.Module) -> None:
  params, x, context = setting(mixer)
  by = influence(mixer, context, params, x)
  assert (by[np.triu_indices(L, 1)] == 0).all()
  assert (np.diag(by) > 0).all()
  assert by[np.tril_indices(L, -1)].any()


@pytest.mark.parametrize("mixer", MIXERS)
def test_gradient_of_another_document_is_zero(mixer: nn.Module) -> None:
  params, x, context = setting(mixer)
  segments = jnp.tile(jnp.repeat(jnp.array([1, 2]), jnp.array([3, 4]))[None], (B, 1))
  packed = Context(context.positions, segments)
  by = influence(mixer, packed, params, x)
  assert (by[:3, 3:] == 0).all() and (by[3:, :3] == 0).all()


@pytest.mark.parametrize("mixer", CACHED)
def test_cached_is_uncached(mixer: nn.Module) -> None:
  params, x, context = setting(mixer)
  whole, aux = mixer.apply(params, x, context)
  assert aux.cache is None
  cache = mixer.empty_cache(B, L + 2, 0, jnp.float32)
  step = jax.jit(lambda x, context: mixer.apply(params, x, context))
  for start, end in ((0, 3), (3, 4), (4, 5), (5, 7)):
    slots = Slots(jnp.int32(start), jnp.arange(L + 2)[None])
    own = Context(context.positions[:, start:end], cache=cache, slots=slots)
    y, aux = step(x[:, start:end], own)
    cache = aux.cache
    # The same sums of float32 numbers, with zeros between them.
    np.testing.assert_allclose(y, whole[:, start:end], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_channel_mixer_sees_its_own_token_only(channel: nn.Module) -> None:
  params, x, context = setting(channel)
  by = influence(channel, context, params, x)
  assert (by[~np.eye(L, dtype=bool)] == 0).all()
  assert (np.diag(by) > 0).all()


def test_cross_attention_sees_its_own_source_document_only() -> None:
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(1, 6, D)), jnp.float32)
  source = jnp.asarray(rng.normal(size=(1, 8, D)), jnp.float32)
  segments = jnp.array([[1, 1, 1, 2, 2, 2]]), jnp.array([[1, 1, 2, 2, 2, 2, 0, 0]])
  module = CrossAttention(2, 8)

  def context(source: jax.Array) -> Context:
    return Context(jnp.zeros((1, 6), int), segments[0], source=Source(source, segments[1]))

  params = parameters(module.init, x, context(source))
  jacobian = jax.jacrev(lambda s: module.apply(params, x, context(s))[0][0])(source)[:, :, 0]
  by = jnp.max(jnp.abs(jacobian), axis=(1, 3))  # [6, 8]
  same = segments[0][0][:, None] == segments[1][0][None]
  np.testing.assert_array_equal(by > 0, same)


def test_cross_attention_remembers_its_source() -> None:
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(B, 4, D)), jnp.float32)
  source = jnp.asarray(rng.normal(size=(B, 5, D)), jnp.float32)
  real = jnp.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
  positions = jnp.tile(jnp.arange(4)[None], (B, 1))
  module = CrossAttention(2, 8)
  context = Context(positions, source=Source(source, real))
  params = parameters(module.init, x, context)
  whole, _ = module.apply(params, x, context)
  cache = module.empty_cache(B, 4, 5, jnp.float32)
  first = Context(positions[:, :1], source=Source(source, real), cache=cache)
  y, aux = module.apply(params, x[:, :1], first)
  np.testing.assert_allclose(y, whole[:, :1], rtol=1e-5, atol=1e-6)
  later = Context(positions[:, 1:], source=Source(None, real), cache=aux.cache)
  y, _ = module.apply(params, x[:, 1:], later)
  np.testing.assert_allclose(y, whole[:, 1:], rtol=1e-5, atol=1e-6)
