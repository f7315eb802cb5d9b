"""BIG-bench-hard from files like its own."""

from __future__ import annotations

import json

import pytest

from mtm.errors import UserError
from mtm.prompts import library
from mtm.prompts.shots import Shots
from mtm.tasks import bbh

QUESTION = "Which is {}?\nOptions:\n(A) a ship\n(B) a shoe"
EXEMPLAR = "Q: {}\nA: Let's think step by step.\nIt floats.\nShoes do not. So the answer is (A).\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
  rows = [{"input": QUESTION.format("worn"), "target": "(B)"},
          {"input": QUESTION.format("neither"), "target": "a hat"}]  # fmt: skip
  (tmp_path / "hyperbaton.json").write_text(json.dumps({"canary": "", "examples": rows}))
  (tmp_path / "navigate.json").write_text("[]")
  words = [{"input": "List: b a", "target": "a b"}]
  (tmp_path / "word_sorting.json").write_text(json.dumps({"examples": words}))
  (tmp_path / "cot-prompts").mkdir()
  asked = [QUESTION.format(f"sailed {n}") for n in range(3)]
  text = "\n".join(["canary", "-----", "Choose.", "", *map(EXEMPLAR.format, asked)])
  (tmp_path / "cot-prompts" / "hyperbaton.txt").write_text(text.rstrip("\n"))
  monkeypatch.setenv(bbh.VARIABLE, str(tmp_path))


def test_the_27_tasks_are_there():
  assert len(bbh.SETS) == 27 == len(library.clusters()["bbh"])


def test_options_of_a_question_are_its_choices(home):
  data = library.find("bbh_hyperbaton")
  (record,) = data.examples("test")  # the one whose answer is no option is left out
  found = data.template("p1").render(record)
  assert (found.choices, found.gold, found.targets) == (("(A)", "(B)"), 1, "(B)")
  (record,) = library.find("bbh_word_sorting").examples("test")
  assert library.find("bbh_word_sorting").template("p1").render(record).choices == ()


def test_published_exemplars_stand_before_a_question(home):
  data = library.find("bbh_hyperbaton")
  exemplars = list(data.examples("train"))
  assert [record["rationale"] for record in exemplars] == ["It floats.\nShoes do not."] * 3
  (question,) = data.examples("test")
  prompt = Shots(3, fixed=True).prompt(data, data.template("cot1"), question)
  assert prompt.inputs.count("Shoes do not. The answer is (A).") == 3
  assert prompt.inputs.endswith("worn?\nOptions:\n(A) a ship\n(B) a shoe\nA:")
  assert (prompt.targets, prompt.references) == ("", ("(B)",))


def test_a_file_of_another_kind_is_told(home, monkeypatch):
  with pytest.raises(UserError, match="navigate.json: no file of BIG-bench-hard .*'examples'"):
    library.find("bbh_navigate").size("test")
  monkeypatch.delenv(bbh.VARIABLE)
  with pytest.raises(UserError, match="BIG-bench-hard is read from your own disk: set MTM_BBH"):
    library.find("bbh_navigate").size("test")
