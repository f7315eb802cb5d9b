"""Config readers overlook nothing."""

from __future__ import annotations

import functools

import jax
import pytest

from mtm.errors import UserError
from mtm.families._published import Config, complete, name_of
from mtm.families.gpt2 import gpt2


def test_what_was_not_read_is_refused_unless_it_is_inert_or_off() -> None:
  theirs = Config({"a": 1, "use_cache": True, "off": False, "none": None, "b": 2})
  assert theirs.get("a", 5) == 1 and theirs.get("absent", 5) == 5 and theirs.get("none", 5) == 5
  with pytest.raises(UserError, match="has b = 2, which this family does not know"):
    theirs.finish()
  theirs.ignore("b")
  theirs.finish()


def test_values_that_must_be_and_agree() -> None:
  theirs = Config({"x": 1, "y": 2, "act": "mish"})
  theirs.expect("x", 1)
  with pytest.raises(UserError, match="has y = 2, which mtm cannot honour: it has 3 or 4"):
    theirs.expect("y", 3, 4)
  with pytest.raises(UserError, match="x = 1, y = 2, and mtm one value"):
    theirs.same("x", "y")
  with pytest.raises(UserError, match="has no 'z'"):
    theirs.need("z")
  with pytest.raises(UserError, match="act = 'mish', which mtm cannot honour"):
    theirs.activation("act", "relu")
  assert theirs.activation("other", "relu") is jax.nn.relu


def test_names_of_activations() -> None:
  assert name_of(jax.nn.gelu) == "gelu_new"
  with pytest.raises(UserError, match="has no name in a config.json"):
    name_of(functools.partial(jax.nn.gelu, approximate=False))


def test_defaults_of_the_builder_complete_arguments() -> None:
  found = complete(gpt2, {"layers": 2, "dropout": 0.3})
  assert found["dropout"] == 0.3 and found["max_length"] == 1024 and "embed" not in found
