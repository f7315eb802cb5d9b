"""Questions: exemplars before them, content taken out of them, answers that nobody knows."""

from __future__ import annotations

import dataclasses

import pytest

from mtm.errors import UserError
from mtm.evaluation.questions import ask, identity
from mtm.prompts.shots import Shots
from mtm.prompts.template import Template
from tests.evaluation.oracle import colours, questions, records


def test_exemplars_stand_before_the_question_and_are_told_apart() -> None:
  plain, shown = questions(colours()), questions(colours(), k=2)
  for alone, question in zip(plain, shown, strict=True):
    assert question.inputs == question.exemplars + alone.inputs
    assert question.exemplars.count("Colour of thing1") == 2 and alone.exemplars == ""
  assert len({question.digest for question in plain + shown}) == 12


def test_content_goes_out_of_every_field_but_the_choices() -> None:
  template = Template("listed", "{thing} or {other}\n{options}\nAnswer:")
  record = {**records(1, 1)[0], "other": "what?"}
  data = colours(templates=(template,), splits={"test": lambda: [record]})
  (question,) = questions(data)
  assert question.blank("N/A", exemplars=True) == (
    "N/A or N/A\nOPTIONS:\n- red\n- green\n- dark blue\nAnswer:"
  )


def test_a_right_answer_by_its_text_does_not_hinder() -> None:
  record = {"thing": "sky", "choices": ("red", "blue"), "answer": "blue"}
  (question,) = questions(colours(splits={"test": lambda: [record]}))
  assert question.rendered.gold == 1 and question.blank("", False) == "Colour of ?"


def test_records_whose_answer_nobody_knows_are_not_asked() -> None:
  hidden = [{**record, "gold": -1} for record in records(0, 3)]
  data = colours(splits={"test": lambda: [*hidden, *records(3, 2)]})
  assert [q.record["thing"] for q in questions(data)] == ["thing3", "thing4"]
  limited = ask(data, data.templates[0], "test", Shots(), limit=1)
  assert [q.record["thing"] for q in limited] == ["thing3"]


def test_what_a_digest_is_about() -> None:
  (one, *_), data = questions(colours()), colours()
  assert one.digest == questions(colours())[0].digest
  other = dataclasses.replace(one, rendered=dataclasses.replace(one.rendered, gold=1))
  assert other.digest != one.digest
  assert identity(data) == identity(colours()) != identity(colours(version="2"))


def test_exemplars_longer_than_the_context_are_told() -> None:
  data = colours()
  with pytest.raises(UserError, match="colours.*asks.*exemplars"):
    list(ask(data, data.templates[0], "test", Shots(3, budget=8), lambda text: len(text.split())))
