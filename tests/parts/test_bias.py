"""A bias as an array and as a rule are the same numbers, and add up."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtm.parts.bias import LONG, Bias, Scheme, of_position
from mtm.parts.positions import Position
from mtm.parts.positions.alibi import Alibi
from mtm.parts.positions.t5_bias import T5Bias
from tests.contracts.discovered import parameters

PLACES = jnp.arange(6)


class Holder(nn.Module):
  """A module that has a scheme, as attention has."""

  position: Position

  def __call__(self, length: int) -> Bias | None:
    return of_position(self.position, None, length)


def test_the_rule_of_a_scheme_gives_the_array_that_was_made() -> None:
  module = Holder(T5Bias(3, bidirectional=True))
  params = parameters(lambda key: module.init(key, 6))
  bias = module.apply(params, 6)
  assert bias.made.shape == (1, 3, 6, 6)
  (rule,) = bias.rules
  np.testing.assert_array_equal(rule(PLACES[None], PLACES[None]), bias.made)
  table = jax.tree.leaves(rule)
  assert len(table) == 1 and table[0].shape == (3, 32), "the learned table is the rule's leaf"


def test_no_array_is_made_for_long_sequences() -> None:
  module = Holder(Alibi(2))
  assert module.apply({}, LONG).made is None
  assert module.apply({}, LONG - 1).made is not None
  assert Holder(Position()).apply({}, 6) is None


def test_sums_and_heads() -> None:
  array = jnp.arange(2.0 * 36).reshape(1, 2, 6, 6)
  rule = Scheme(Alibi(2), {})
  made = rule(PLACES[None], PLACES[None])
  plain, ruled, both = Bias(array), Bias(rules=(rule,)), Bias(rules=(rule,), made=made)
  for one, other in ((plain, ruled), (ruled, plain), (plain, both), (both, plain)):
    total = one + other
    np.testing.assert_allclose(total.dense(PLACES, PLACES), array + made)
    head = total.of_heads(np.array([1])).dense(PLACES, PLACES)
    np.testing.assert_allclose(head, (array + made)[:, 1:])
  assert (both + ruled).made is None, "what is half made is not made"
  np.testing.assert_allclose((both + ruled).dense(PLACES, PLACES), 2 * made)
  np.testing.assert_allclose((plain + both).elsewhere().dense(PLACES, PLACES), array + made)
