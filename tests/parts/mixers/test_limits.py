"""What mixers refuse is told in one sentence that names the mixer and the way out."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import pytest

from mtm.errors import UserError
from mtm.parts.context import Context, Slots
from mtm.parts.mixers._limits import refuse_bias, refuse_cache, refuse_prefix

PLACE = jnp.zeros((1, 3), jnp.int32)


def context(**fields: Any) -> Context:
  return Context(PLACE, **fields)


def test_a_bias_is_refused_and_none_is_not() -> None:
  refuse_bias("Some", None)
  with pytest.raises(UserError, match=r"^Some cannot add a bias .*Rotary.*Attention"):
    refuse_bias("Some", jnp.zeros((1, 1, 3, 3)))


def test_a_prefix_is_refused_and_other_labels_are_not() -> None:
  refuse_prefix("Some", context(labels={"token_types": PLACE}))
  with pytest.raises(UserError, match=r"^causal Some cannot see a prefix .*causal_lm\.gin"):
    refuse_prefix("Some", context(labels={"prefix": PLACE}))


def test_decoding_is_refused_and_training_is_not() -> None:
  refuse_cache("Some", "it is new", context())
  with pytest.raises(UserError, match=r"^Some has no cache, as it is new: .*LinearAttention can$"):
    refuse_cache("Some", "it is new", context(slots=Slots(jnp.int32(0), PLACE)))
