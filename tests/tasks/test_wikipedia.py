"""Wikipedia, one task a language and a mixture of them all."""

from __future__ import annotations

import pytest

from mtm.data import registry
from mtm.tasks import wikipedia
from tests.tasks import mocked


@pytest.mark.parametrize("language", ["en", "sw", "ja"])
def test_a_task_resolves_and_preprocesses(language):
  mocked.check(f"wikipedia_{wikipedia.DUMP}.{language}")


def test_the_mixture_holds_every_language_alike():
  mixture = registry.find(f"wikipedia_{wikipedia.DUMP}.multilingual")
  assert {mixture.get_rate(task) for task in mixture.tasks} == {1.0}
  assert len(mixture.tasks) == len(wikipedia.LANGUAGES)
