"""Templates: records become questions, and what is wrong with one is told."""

from __future__ import annotations

import pytest

from mtm.errors import UserError
from mtm.prompts.template import Rendered, Template, digest

NLI = {"premise": "It rains.", "hypothesis": "It is wet.", "choices": ["yes", "no"], "gold": 0}
PLAIN = Template("plain", "{premise} So {hypothesis}\n{options}\nAnswer:")


def test_a_record_becomes_a_question_with_its_choices():
  assert PLAIN.render(NLI) == Rendered(
    "It rains. So It is wet.\nOPTIONS:\n- yes\n- no\nAnswer:", "yes", ("yes", "no"), 0, ("yes",),
    digest(NLI), " ",
  )  # fmt: skip
  assert PLAIN.render(NLI).text.endswith("Answer: yes")
  assert PLAIN.render(NLI).continuation("no") == " no"


def test_letters_stand_for_choices():
  found = Template("letters", "{options}", letters=True).render(NLI)
  assert (found.inputs, found.targets) == ("OPTIONS:\n(A) yes\n(B) no", "(A)")
  assert found.choices == ("(A)", "(B)")


def test_a_template_may_bring_its_own_choices():
  found = Template("true", "{premise}", choices=("{hypothesis} True", "False")).render(NLI)
  assert found.choices == ("It is wet. True", "False")
  assert found.targets == "It is wet. True"


def test_a_template_may_ask_freely_and_a_record_may_have_no_choices():
  free = Template("free", "{premise}", choices=())
  assert free.render(NLI).choices == ()
  assert free.render(NLI).references == ("yes",)
  found = free.render({"premise": "a", "answers": ["b", "c"]})
  assert (found.targets, found.references) == ("b", ("b", "c"))


def test_the_answer_of_a_rationale_is_the_reference():
  template = Template("cot", "{premise}", "{rationale} So {answer}.", choices=())
  found = template.render({**NLI, "rationale": "Rain wets."})
  assert (found.targets, found.references) == ("Rain wets. So yes.", ("yes",))
  assert template.reasons and not PLAIN.reasons
  asked = template.render(NLI)  # a question to answer, though nobody has reasoned
  assert (asked.targets, asked.references) == ("", ("yes",))


def test_a_task_turned_around_has_its_target_for_reference():
  found = Template("turned", "A premise for {hypothesis}:", "{premise}", ()).render(NLI)
  assert (found.targets, found.references) == ("It rains.", ("It rains.",))


def test_a_hidden_answer_gives_no_target():
  found = PLAIN.render({**NLI, "gold": -1})
  assert (found.targets, found.gold) == ("", None) and found.choices == ("yes", "no")


def test_nothing_joins_an_answer_to_no_question():
  assert Template("text", "").render({"answer": "all"}).text == "all"


def test_the_digest_tells_records_apart():
  assert digest(NLI) == digest(dict(reversed(NLI.items())))
  assert digest(NLI) != digest({**NLI, "gold": 1})


@pytest.mark.parametrize(
  ("template", "record", "told"),
  [
    (PLAIN, {"premise": "a", "hypotesis": "b", "choices": ["c"], "gold": 0},
     "'plain' names a field 'hypothesis' .*did you mean 'hypotesis'"),
    (PLAIN, {**NLI, "gold": 2}, "right answer is choice 2 .*only 2: yes, no"),
    (PLAIN, {**NLI, "gold": None, "answer": "yess"}, "'yess' is none of the choices.*'yes'"),
    (PLAIN, {"premise": "a", "hypothesis": "b"}, "a field 'options'"),
    (Template("list", "", choices="premise"), NLI, "'premise' is 'It rains.', not a list"),
  ],
)  # fmt: skip
def test_a_record_that_does_not_serve_is_told(template, record, told):
  with pytest.raises(UserError, match=told):
    template.render(record)


@pytest.mark.parametrize("text", ["{premise", "{a.b}", "{0}", "{a!r}", "{}", "a } b"])
def test_braces_that_name_no_field_are_told(text):
  with pytest.raises(UserError, match=r"template 'bad': "):
    Template("bad", text)


def test_doubled_braces_are_plain():
  assert Template("set", "{{{premise}}}").render({"premise": 1, "answer": ""}).inputs == "{1}"
