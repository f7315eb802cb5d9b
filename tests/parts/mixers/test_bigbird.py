"""BigBird's plan against what the paper asks of it, and its attention against full attention with
repeated keys; tests/parity compares it with the original."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.context import Context, Slots
from mtm.parts.mixers.bigbird import BigBird, Plan
from tests.contracts.discovered import parameters

PLANS = [
  (Plan(4, 2, longest=64), 64),
  (Plan(3, 1, seed=5, longest=64), 50),
  (Plan(64, 3), 4096),
  (Plan(64, 3), 1024),
]


@pytest.mark.parametrize(("plan", "length"), PLANS)
def test_what_a_plan_shows(plan: Plan, length: int) -> None:
  counts = plan.counts(length, 3, True)
  assert counts is not None
  blocks = -(-length // plan.block)
  assert counts.shape == (3, blocks, blocks)
  away = np.abs(np.arange(blocks)[:, None] - np.arange(blocks))
  assert counts[:, away <= 1].all()
  assert counts[:, [0, -1]].all() and counts[:, :, [0, -1]].all()
  total = counts[:, 1:-1].sum(-1) - plan.random  # its own three and two ends, without doubles
  np.testing.assert_array_equal(total[:, 1:-1], 5)
  np.testing.assert_array_equal(total[:, [0, -1]], 4)
  assert not (counts[0] == counts[1]).all(), "all heads draw the same"
  other = dataclasses.replace(plan, seed=plan.seed + 1).counts(length, 3, True)
  assert not (counts == other).all(), "all layers draw the same"
  np.testing.assert_array_equal(counts, plan.counts(length, 3, False))


def test_short_rows_are_seen_whole() -> None:
  plan = Plan(4, 2, longest=64)
  assert plan.least == 36
  assert plan.counts(36, 2, True) is None
  assert plan.counts(37, 2, True) is not None


def test_evaluation_without_drawn_blocks_counts_the_first_once_more_for_each() -> None:
  counts = Plan(2, 3, longest=64, drawn_in_eval=False).counts(40, 2, False)
  assert counts is not None and counts.shape == (1, 20, 20)
  assert (counts[0, 1:-1, 0] == 4).all() and counts[0, :, 1:].max() == 1 and counts[0, 0, 0] == 1


@pytest.mark.parametrize("train", [True, False])
def test_a_key_counts_as_often_as_the_plan_says(train: bool) -> None:
  """Against softmax over scores in which such a key stands several times."""
  plan = Plan(1, 2, seed=2, longest=64, drawn_in_eval=False)
  mixer = BigBird(2, 4, plan, bias=True)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 16, 8)), jnp.float32)
  context = Context(jnp.arange(16)[None], train=train)
  params = parameters(mixer.init, x, context)
  y, _ = mixer.apply(params, x, context)
  own = params["params"]
  q, k, v = (
    jnp.einsum("bld,dhk->bhlk", x, own[name]["kernel"]) + own[name]["bias"][None, :, None]
    for name in ("query", "key", "value")
  )
  counts = plan.counts(16, 2, train)
  weights = np.exp(jnp.einsum("bhlk,bhsk->bhls", q, k) / 2) * counts
  seen = jnp.einsum("bhls,bhsk->blhk", weights / weights.sum(-1, keepdims=True), v)
  wanted = jnp.einsum("blhk,hkd->bld", seen, own["out"]["kernel"]) + own["out"]["bias"][None, None]
  # Other orders of summation in float32.
  np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


def test_what_it_cannot_do_is_told() -> None:
  mixer = BigBird(2, 4, Plan(1, 1, longest=8))
  x, slots = jnp.zeros((1, 9, 8)), Slots(jnp.int32(0), jnp.arange(9)[None])
  positions = jnp.arange(9)[None]
  with pytest.raises(UserError, match="longest"):
    jax.eval_shape(mixer.init, jax.random.key(0), x, Context(positions))
  with pytest.raises(UserError, match="no cache"):
    jax.eval_shape(mixer.init, jax.random.key(0), x, Context(positions, slots=slots))
  with pytest.raises(UserError, match="block must"):
    Plan(0)
