"""Docstrings and code of the standard library as questions."""

from __future__ import annotations

import ast
import itertools

from mtm.data.sources import stdlib
from mtm.prompts import library

NAMES = library.find("docstring_to_name")
CODE = library.find("code_to_docstring")


def test_the_right_name_is_among_four_and_not_told():
  found = list(NAMES.examples("validation"))
  assert len(found) > 200
  for record in found:
    name = record["choices"][record["gold"]]
    assert len(set(record["choices"])) == 4 and name not in record["docstring"].split()
  places = [record["gold"] for record in found]
  assert {places.count(place) for place in range(4)} <= set(range(40, 110))  # 296 / 4 = 74


def test_a_name_is_chosen_or_written_freely():
  record = next(NAMES.examples("validation"))
  kinds = {bool(template.render(record).choices) for template in NAMES.templates}
  assert kinds == {True, False}


def test_code_parses_and_has_lost_its_docstring():
  functions = dict(stdlib.functions("validation"))
  for record in itertools.islice(CODE.examples("validation"), 100):
    (node,) = ast.parse(record["code"]).body
    assert isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is None
    assert record["answer"].split() == functions[record["code"]].split("\n\n")[0].split()
