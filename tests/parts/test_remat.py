"""Policies of recomputation: they change memory, never a value."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families.t5 import t5
from mtm.parts import remat
from mtm.parts.attention import Attention
from mtm.parts.context import Context
from mtm.parts.mlp import Mlp
from mtm.parts.norm import RMSNorm
from mtm.parts.patterns.causal import Causal
from mtm.parts.stack import Block, Stack

LAYERS, LENGTH, WIDTH = 8, 64, 32


def program(policy: Any) -> tuple[Any, Any, Any]:
  """A stack's loss gradient, not yet compiled, and its arguments."""
  one = Block(Attention(2, 16, pattern=Causal(), kernel="reference"), Mlp(128), RMSNorm)
  module = Stack((one,), LAYERS, remat=policy)
  x = jax.random.normal(jax.random.key(1), (2, LENGTH, WIDTH))
  context = Context(jnp.tile(jnp.arange(LENGTH)[None], (2, 1)))

  def loss(params: Any, x: jax.Array) -> jax.Array:
    return jnp.sum(module.apply({"params": params}, x, context)[0] ** 2)  # type: ignore[index]

  params = module.init(jax.random.key(0), x, context)["params"]
  return jax.jit(jax.grad(loss)), params, x


@functools.cache
def compiled(policy: Any) -> tuple[Any, Any]:
  """Gradients under a policy, and what the program needs beside its arguments, in bytes."""
  gradient, params, x = program(policy)
  done = gradient.lower(params, x).compile()
  return done(params, x), done.memory_analysis().temp_size_in_bytes


POLICIES = {
  "full": remat.full(), "dots": remat.dots(), "attention": remat.attention(),
  "keep": remat.keep(("attended", "channel")), "offload": remat.offload(),
  "some of each": remat.offload(("hidden",), ("mixer",)),
}  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_policy_changes_no_gradient(policy: Any) -> None:
  wanted, _ = compiled(None)
  got, _ = compiled(policy)
  # The same operations, fused otherwise: sums of gradients up to 400, in float32.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), got, wanted)


def test_what_recomputes_more_holds_less() -> None:
  policies = (None, *(POLICIES[name] for name in ("attention", "keep", "full")))
  held = [compiled(policy)[1] for policy in policies]
  assert held == sorted(held, reverse=True) and held[-1] < held[0] / 3


def test_products_with_weights_are_kept_for_the_backward_pass() -> None:
  """Float32 [layers, batch, length, features]: query, key, value and what the MLP widens to."""
  products = 4 * LAYERS * 2 * LENGTH * (3 * WIDTH + 128)
  more = compiled(POLICIES["dots"])[1] - compiled(POLICIES["full"])[1]
  assert more >= 0.9 * products  # XLA uses some memory twice


def test_recomputing_attention_keeps_no_scores() -> None:
  """Of plain attention the scores, float32 [layers, batch, heads, length, length], are the most."""
  scores = 4 * LAYERS * 2 * 2 * LENGTH * LENGTH
  assert compiled(None)[1] - compiled(POLICIES["attention"])[1] >= scores


def test_what_is_offloaded_leaves_the_device() -> None:
  """The program's own plan names the host; XLA for CPUs, whose memory is one, moves nothing."""
  gradient, params, x = program(remat.offload(("hidden",)))
  text = str(gradient.trace(params, x).jaxpr)
  assert "host" in text.lower()
  gradient, params, x = program(remat.keep(("hidden",)))
  assert "host" not in str(gradient.trace(params, x).jaxpr).lower()


@pytest.mark.parametrize("policy", [remat.keep, remat.offload])
def test_a_name_that_no_part_gives_is_refused_with_the_nearest(policy: Any) -> None:
  with pytest.raises(UserError, match="'hiden'.*'hidden'"):
    policy(("hiden",))


def test_a_value_cannot_both_stay_and_go() -> None:
  with pytest.raises(UserError, match="mixer cannot both"):
    remat.offload(("mixer",), ("mixer",))


def test_a_finished_model_takes_a_policy_in_all_its_towers() -> None:
  plain = t5(vocab=11, layers=2, embed=16, heads=2, head_dim=8, mlp=32)
  given: Any = remat.applied(plain.module, remat.full())
  assert given.encoder.stack.remat == given.decoder.stack.remat == remat.full()
  assert plain.module.encoder.stack.remat is None  # the given one stays as it was
