"""Soft mixture of experts: the paper's arithmetic, and whose business padding is not."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.attention import Attention
from mtm.parts.context import Context
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers import Router
from mtm.parts.experts.routers.expert_choice import ExpertChoice
from mtm.parts.experts.routers.switch import Switch
from mtm.parts.experts.soft import SoftExperts
from mtm.parts.linear import Embed
from mtm.parts.norm import RMSNorm
from mtm.parts.patterns.causal import Causal
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import Decoder, Tower
from tests.contracts.discovered import parameters

B, L, D, E, S = 2, 6, 8, 3, 2
MODULE = SoftExperts(E, ExpertMlp(5, jax.nn.relu), S)
X = np.random.default_rng(0).normal(size=(B, L, D)).astype(np.float32)
SEGMENTS = np.array([[1] * L, [1] * 4 + [0] * 2])


def context(segments: np.ndarray | None) -> Context:
  return Context(jnp.zeros((B, L), jnp.int32), None if segments is None else jnp.asarray(segments))


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
  e = np.exp(x - x.max(axis, keepdims=True))
  return e / e.sum(axis, keepdims=True)


def by_hand(params: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Algorithm 1 with the normalisation of §2.3, for a row without padding; and its C."""
  kernel = params["router"]["kernel"].astype(np.float64)
  unit = x / np.linalg.norm(x, axis=1, keepdims=True)
  logits = unit @ (params["router"]["scale"] * kernel / np.linalg.norm(kernel, axis=0))
  slots = softmax(logits, 0).T @ x
  said = [
    np.maximum(slots[p] @ params["expert"]["wi"]["kernel"][p // S], 0)
    @ params["expert"]["wo"]["kernel"][p // S]
    for p in range(E * S)
  ]
  return softmax(logits, 1) @ np.stack(said), softmax(logits, 1)


def test_slots_read_means_of_tokens_and_tokens_means_of_what_is_said() -> None:
  variables = parameters(MODULE.init, X, context(None))
  y, aux = jax.jit(lambda x: MODULE.apply(variables, x, context(SEGMENTS)))(X)
  whole, mixes = by_hand(variables["params"], X[0])
  short, mixed = by_hand(variables["params"], X[1, :4])
  # float64 beside float32.
  np.testing.assert_allclose(y[0], whole, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(y[1, :4], short, rtol=1e-4, atol=1e-5)
  assert (np.asarray(y[1, 4:]) == 0).all()
  load = np.concatenate([mixes, mixed]).reshape(-1, E, S).sum((0, 2)) / 10
  np.testing.assert_allclose(aux.metrics["load"], load, rtol=1e-4)
  entropy = -(load * np.log(load)).sum() / np.log(E)
  np.testing.assert_allclose(aux.metrics["load_entropy"], entropy, rtol=1e-4)
  assert not aux.losses and aux.metrics["dropped"] == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values_and_gradients_are_finite_at_balance_and_at_collapse(dtype: str) -> None:
  variables = parameters(MODULE.init, X, context(None))

  def total(router: Any, x: jax.Array) -> jax.Array:
    params = {"params": {**variables["params"], "router": router}}
    y, _ = MODULE.apply(params, x, context(SEGMENTS * np.array([[1], [0]])))
    return jnp.sum(jnp.square(y.astype(jnp.float32)))

  finite = jax.jit(jax.value_and_grad(total, (0, 1)))
  shape = (D, E * S)
  for kernel, x in (
    (np.zeros(shape), X),
    (np.eye(*shape)[:, :1] * np.eye(1, E * S) * 1e4, np.ones_like(X)),
    (np.ones(shape), np.zeros_like(X)),
  ):
    router = {"kernel": jnp.asarray(kernel, jnp.float32), "scale": jnp.full((1,), 100.0)}
    for leaf in jax.tree.leaves(finite(router, jnp.asarray(x, dtype))):
      assert np.isfinite(np.asarray(leaf, np.float32)).all()


def decoder(channel: nn.Module) -> Decoder:
  block = Block(Attention(2, 4, pattern=Causal()), channel, RMSNorm)
  return Decoder(Embed(7, D), Tower(Stack((block,), 1)), RMSNorm())


def with_router(router: Router) -> Experts:
  return Experts(E, router, ExpertMlp(5), Dropless())


def test_a_decoder_refuses_experts_that_choose_among_all_tokens() -> None:
  for channel in (MODULE, with_router(ExpertChoice())):
    with pytest.raises(UserError, match="experts choose among all tokens.*whose tokens choose"):
      decoder(channel)
  decoder(with_router(Switch()))
