"""The nearest valid choice."""

from __future__ import annotations

from mtm.errors import UserError, nearest


def test_a_close_name_is_suggested() -> None:
  assert nearest("embde", ["embed", "vocab"]) == "; did you mean 'embed'?"


def test_far_names_list_the_choices() -> None:
  assert nearest("xyz", ["b", "a"]) == "; choose one of: a, b"
  many = nearest("xyz", [f"name_{i}" for i in range(20)])
  assert many.endswith(", ...") and many.count("name_") == 8


def test_no_choices_say_nothing() -> None:
  assert nearest("x", []) == ""


def test_user_errors_are_value_errors() -> None:
  assert issubclass(UserError, ValueError)
