"""GPT-3's arithmetic, as its paper defines it (2005.14165, §3.9.1): no download.

`arithmetic_2da` (two digits, addition), `arithmetic_2ds`, ..., `arithmetic_5ds`; `arithmetic_2dm`
(multiplication) and `arithmetic_1dc` (three digits and two signs).
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from typing import Any

from mtm.prompts.prompted import Prompted
from mtm.prompts.template import Template
from mtm.tasks import _generated

WORDS = {"+": "plus", "-": "minus", "*": "times"}
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}

# The first is the paper's own.
TEMPLATES = (
  Template("gpt3", "Q: What is {expression}?\nA:"),
  Template("question", "What is {expression}?\nAnswer:"),
  Template("compute", "Compute {expression}.\nResult:"),
  Template("equation", "{symbols} ="),
  Template("calculate", "Please calculate {symbols} and write the number.\n"),
  Template("tell", "Tell me the value of {symbols}.\nValue:"),
  Template("exercise", "Exercise: {expression} is how much?\nSolution:"),
  Template("evaluate", "Evaluate the expression below.\n{symbols}\nIt equals"),
  Template("quiz", "Quiz. {expression}?\n-"),
  Template("blank", "Fill in the number: {symbols} = ___\n___ ="),
)


def _set(name: str, make: _generated.Make, few: bool = False) -> Prompted:
  return _generated.made(name, "arithmetic", make, TEMPLATES, about="symbols", few=few)


def _two(sign: str, digits: int) -> Callable[[random.Random], dict[str, Any]]:
  """Two integers, each uniform below 10^digits, and a sign; a difference may be negative."""

  def make(rng: random.Random) -> dict[str, Any]:
    a, b = rng.randrange(10**digits), rng.randrange(10**digits)
    answer = str(OPERATORS[sign](a, b))
    expression = f"{a} {WORDS[sign]} {b}"
    return {"expression": expression, "symbols": f"{a} {sign} {b}", "answer": answer}

  return make


def composite(rng: random.Random) -> dict[str, Any]:
  """Three digits and two signs, parentheses around the last two: `6+(4*8)`."""
  (a, b, c), (f, g) = [rng.randrange(10) for _ in range(3)], rng.choices(list(WORDS), k=2)
  text = f"{a}{f}({b}{g}{c})"
  return {
    "expression": text, "symbols": text, "answer": str(OPERATORS[f](a, OPERATORS[g](b, c))),
  }  # fmt: skip


SETS = (
  *(
    _set(f"arithmetic_{digits}d{letter}", _two(sign, digits), few=digits == 2)
    for digits in (2, 3, 4, 5)
    for letter, sign in (("a", "+"), ("s", "-"))
  ),
  _set("arithmetic_2dm", _two("*", 2), few=True),
  _set("arithmetic_1dc", composite, few=True),
)
