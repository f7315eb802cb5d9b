"""Ways of asking, with a speaker that says what it is told to."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mtm.errors import UserError
from mtm.evaluation.methods import Generate, Perplexity, Rank, SelfConsistency, spelled
from mtm.evaluation.ranking import PMI, Calibrated, PerToken, Sum
from tests.evaluation.oracle import Oracle, colours, noise, questions, sums

RULES = (Sum(), PerToken(), PMI(), Calibrated())


def answered(method: Any, speaker: Oracle, asked: Any) -> list[Any]:
  """Through JSON, as replies are kept."""
  replies = json.loads(json.dumps(method.ask(speaker, asked)))
  return [method.answers(q, reply) for q, reply in zip(asked, replies, strict=True)]


def test_the_likeliest_choice_is_the_answer_with_the_models_confidence() -> None:
  asked = questions(colours())
  answers = answered(Rank((Sum(), PerToken())), Oracle(noise), asked)
  for question, found in zip(asked, answers, strict=True):
    nats = np.array([noise(question.inputs, f" {choice}") for choice in question.choices])
    assert list(found) == ["sum", "per_token"]
    assert found["sum"].chosen == np.argmax(nats) and found["sum"].gold == question.rendered.gold
    assert found["sum"].confidence == pytest.approx(np.exp(nats).max() / np.exp(nats).sum())
    assert found["per_token"].chosen == np.argmax(nats / [1, 1, 2])


def test_rules_share_what_they_ask() -> None:
  speaker = Oracle(noise)
  Rank(RULES).ask(speaker, questions(colours()))
  # Six questions; "", "N/A" and "[MASK]" in place of content, the first of them for two rules.
  assert len(speaker.asked) == len(set(speaker.asked)) == 6 + 3


def test_choices_are_needed_to_rank() -> None:
  with pytest.raises(UserError, match="'sums', template 'asks' gives no choices"):
    Rank().ask(Oracle(noise), questions(sums(), split="validation"))


def test_a_text_answers_with_what_the_set_extracts() -> None:
  asked = questions(sums(), split="validation")
  texts = ["0 + 1 is 0, no: it is 1", "is 7", "two is 3"]
  said = dict(zip([q.inputs for q in asked], texts, strict=True))
  found = answered(Generate(), Oracle(noise, lambda inputs, _: [said[inputs]]), asked)
  assert [answer[""].text for answer in found] == ["1", "7", "3"]
  assert [answer[""].right for answer in found] == [True, False, True]


def test_a_text_that_spells_out_a_choice_chooses_it() -> None:
  asked = questions(colours())[:3]
  said = dict(zip([q.inputs for q in asked], [" Red.", "Dark  blue", "none"], strict=True))
  found = answered(Generate(), Oracle(noise, lambda inputs, _: [said[inputs]]), asked)
  assert [answer[""].chosen for answer in found] == [0, 2, -1]
  assert spelled("(A)") == "(a)" != spelled("A")


def test_most_of_the_samples_win_and_the_first_of_equals() -> None:
  asked = questions(sums(), split="validation")
  votes = [["is 4", "is 1", "is 1", "4"], ["is 9", "is 2", "2", "so it is 9"], ["a", "b", "c", "d"]]
  said = dict(zip([q.inputs for q in asked], votes, strict=True))
  method = SelfConsistency(samples=4)
  found = answered(method, Oracle(noise, lambda inputs, _: said[inputs]), asked)
  assert [answer[""].text for answer in found] == ["4", "9", "a"]
  assert [answer[""].confidence for answer in found] == [0.5, 0.5, 0.25]


def test_samples_are_numbered_by_the_question_not_by_its_place() -> None:
  asked, numbers = questions(sums(), split="validation"), {}

  def writes(inputs: str, number: int) -> list[str]:
    assert numbers.setdefault(inputs, number) == number
    return ["is 1"] * 8

  for part in (asked, asked[1:], asked[::-1]):
    SelfConsistency().ask(Oracle(noise, writes), part)
  assert len(set(numbers.values())) == 3


def test_perplexity_is_of_the_right_answer_or_of_a_text_alone() -> None:
  from mtm.prompts.template import Template

  asked = questions(colours())[:2]
  texts = colours("texts", templates=(Template("text", "", "{thing} is new"),))
  found = answered(Perplexity(), Oracle(noise), [asked[0], questions(texts)[1], asked[1]])
  told = [answer[""].likelihood for answer in found]
  assert told[0] == (pytest.approx(noise(asked[0].inputs, " red")), 1, 4)
  assert told[1] == (pytest.approx(noise("", "thing1 is new")), 3, 13)
  assert told[2] == (pytest.approx(noise(asked[1].inputs, " green")), 1, 6)
