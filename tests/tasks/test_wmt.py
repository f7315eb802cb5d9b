"""WMT tasks ask for a translation as T5 does."""

from __future__ import annotations

import pytest

from mtm.tasks import wmt
from tests.tasks import mocked


@pytest.mark.parametrize("name", wmt.TASKS)
def test_a_task_resolves_and_preprocesses(name):
  mocked.check(name)


def test_the_source_is_asked_for_in_words():
  (example, *_) = mocked.examples("wmt14_ende_v003", en="A house.", de="Ein Haus.")
  assert example["inputs_pretokenized"] == "translate English to German: A house."
  assert example["targets_pretokenized"] == "Ein Haus."
  (example, *_) = mocked.examples("wmt16_enro_v003", en="A house.", ro="O casă.")
  assert example["inputs_pretokenized"] == "translate English to Romanian: A house."
