"""Wordings that many sets share, and how templates are written down in few lines."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable

from mtm.prompts.template import Template

# The final answer of a rationale; where it is not found, all of a text is the answer.
ANSWER = r"(?i)\banswer is:?\s*(.+?)\.?\s*$"
REASONED = "{rationale} The answer is {answer}."


def numbered(
  *inputs: str,
  prefix: str = "p",
  targets: str = "{answer}",
  choices: str | tuple[str, ...] = "choices",
  original: bool = True,
) -> tuple[Template, ...]:
  """Templates `p1`, `p2`, ..."""
  return tuple(
    Template(f"{prefix}{number}", text, targets, choices, original=original)
    for number, text in enumerate(inputs, 1)
  )


def open_questions() -> tuple[Template, ...]:
  """Ten wordings for records with a `question` that is answered freely."""
  return numbered(
    "Q: {question}\nA:",
    "Question: {question}\nAnswer:",
    "{question}\n",
    "{question}\nThe answer is",
    "Answer the question.\n{question}\nAnswer:",
    "Here is a task: {question}\nResult:",
    "Please solve this: {question}\nSolution:",
    "User: {question}\nAssistant:",
    "{question} Write the answer only.\n",
    "Problem\n{question}\n\nAnswer\n",
  )


def choice_questions() -> tuple[Template, ...]:
  """Ten wordings for records with a `question` and `choices`, eight of which list the choices."""
  return numbered(
    "Q: {question}\n{options}\nA:",
    "Question: {question}\n{options}\nAnswer:",
    "{question}\n{options}\n",
    "{question}\n",
    "{options}\n{question}\nThe answer is",
    "Choose the right answer.\n{question}\n{options}\nAnswer:",
    "Which of these is right? {question}\n{options}\nChoice:",
    "User: {question}\n{options}\nAssistant:",
    "{question} Write the answer only.\n",
    "Problem\n{question}\n\n{options}\n\nAnswer\n",
  )


def reasoned() -> tuple[Template, ...]:
  """Chain of thought (2201.11903) for records with a `question` and a `rationale`."""
  texts = (
    "Q: {question}\nA:",
    "{question}\nLet us go step by step.",
    "Question: {question}\nReasoning:",
    "Explain how you find the answer, then give it.\n{question}\n",
  )
  return numbered(*texts, prefix="cot", targets=REASONED, choices=())


def joined(*groups: Iterable[Template]) -> tuple[Template, ...]:
  """The templates of all groups; those called `p` and a number are numbered anew."""
  made: list[Template] = []
  count = 0
  for template in itertools.chain(*groups):
    if re.fullmatch(r"p\d+", template.name):
      count += 1
      template = dataclasses.replace(template, name=f"p{count}")
    made.append(template)
  return tuple(made)
