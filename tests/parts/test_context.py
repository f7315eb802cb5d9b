"""Context and Source are pytrees whose `train` flag is static."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mtm.parts.context import Context, Slice, Slots, Source


def test_train_is_static_and_the_rest_is_traced() -> None:
  context = Context(
    jnp.zeros((1, 2)), labels={"prefix": jnp.ones((1, 2))},
    source=Source(None, jnp.ones((1, 3))), train=True,
  )  # fmt: skip
  assert len(jax.tree.leaves(context)) == 3
  doubled = jax.tree.map(lambda x: x * 2, context)
  assert doubled.train is True
  assert doubled.labels["prefix"][0, 0] == 2


def test_with_cache_changes_the_cache_only() -> None:
  context = Context(jnp.zeros((1, 2)), train=True)
  own = context.with_cache("mine")
  assert own.cache == "mine" and own.train and own.positions is context.positions


def test_slots_tell_the_positions_of_what_is_written() -> None:
  positions = jnp.arange(10, 22).reshape(2, 6)
  together = Slots(jnp.int32(3), positions)
  np.testing.assert_array_equal(together.own(2), [[13, 14], [19, 20]])
  each = Slots(jnp.array([3, 0], jnp.int32), positions)
  np.testing.assert_array_equal(each.own(2), [[13, 14], [16, 17]])


def test_a_slice_tells_where_its_tokens_and_all_keys_stand() -> None:
  of_query, of_key = Slice(jnp.int32(4)).places(2, 7)
  np.testing.assert_array_equal(of_query, [[4, 5]])
  np.testing.assert_array_equal(of_key, [np.arange(7)])
