"""docs/families.md tells of every family that can be loaded."""

from __future__ import annotations

from tests.families import document


def test_the_page_has_a_row_for_every_family() -> None:
  page = document.PAGE.read_text()
  for _, row in document.families():
    assert row in page, "run `python -m tests.families.document`"
