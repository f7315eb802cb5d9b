"""The table of rules: complete, and changed only by names that exist."""

from __future__ import annotations

import pytest

from mtm.axes import NAMES
from mtm.errors import UserError
from mtm.sharding.mesh import AXES
from mtm.sharding.rules import RULES, WHOLE, Rule, override


def test_a_rule_names_only_axes_that_exist():
  for name, rule in RULES.items():
    assert name in NAMES
    assert set(rule.parameter + rule.activation) <= set(AXES), name


def test_every_axis_has_a_rule():
  assert NAMES == RULES.keys()


def test_an_override_replaces_its_row_and_leaves_the_table_alone():
  changed = override({"embed": (("fsdp",), ("tensor",))})
  assert changed["embed"] == Rule(("fsdp",), ("tensor",))
  assert {**changed, "embed": RULES["embed"]} == RULES
  assert RULES["embed"].activation == WHOLE.activation


def test_a_gradient_lies_as_its_parameter_and_a_slot_as_its_gradient_unless_told_otherwise():
  assert Rule(("fsdp",)).of_slot == Rule(("fsdp",)).of_gradient == ("fsdp",)
  second = Rule((), (), ("fsdp",))
  assert (second.parameter, second.of_gradient, second.of_slot) == ((), ("fsdp",), ("fsdp",))
  first = Rule((), (), (), ("fsdp",))
  assert (first.parameter, first.of_gradient, first.of_slot) == ((), (), ("fsdp",))


def test_an_override_may_change_a_table_that_was_changed_before():
  first = override({"embed": ((), (), ("fsdp",))})
  both = override({"head_dim": [["tensor"]]}, first)
  assert both["embed"].of_slot == ("fsdp",) and both["head_dim"] == Rule(("tensor",))


def test_an_override_with_too_many_fields_is_told_which_there_are():
  with pytest.raises(UserError, match="'embed' has 5 fields: .* parameter, activation, gradient"):
    override({"embed": ((), (), (), (), ())})


def test_an_override_of_an_unknown_axis_is_refused_with_the_nearest():
  with pytest.raises(UserError, match="unknown axis 'embedd'; did you mean 'embed'"):
    override({"embedd": ((), ())})


def test_an_override_onto_an_unknown_mesh_axis_is_refused_with_the_nearest():
  with pytest.raises(UserError, match="'embed'.*mesh axis 'fdsp'; did you mean 'fsdp'"):
    override({"embed": (("fdsp",), ())})
