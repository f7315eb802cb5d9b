"""The one billion word benchmark."""

from __future__ import annotations

from tests.tasks import mocked


def test_the_task_resolves_and_preprocesses():
  mocked.check("lm1b")


def test_the_text_is_the_target():
  (example, *_) = mocked.examples("lm1b", text="A line.")
  assert example["targets_pretokenized"] == "A line." and "inputs" not in example
