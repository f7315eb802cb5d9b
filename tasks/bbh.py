"""BIG-bench-hard (2210.09261) from JSON files of your own.

MTM_BBH names the directory with `boolean_expressions.json` and so on. All of their examples are the
split `test`; the three exemplars of `cot-prompts/<task>.txt` are the split `train`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

from mtm.errors import UserError
from mtm.prompts.prompted import Prompted
from mtm.prompts.template import Example
from mtm.tasks import _local, _templates

VARIABLE = "MTM_BBH"
LETTERED: tuple[str, ...] = ()
FREE = None
# Task → its choices, () where a question lists its own, None where the answer is written freely.
TASKS: dict[str, tuple[str, ...] | None] = {
  "boolean_expressions": ("True", "False"),
  "causal_judgement": ("Yes", "No"),
  "date_understanding": LETTERED,
  "disambiguation_qa": LETTERED,
  "dyck_languages": FREE,
  "formal_fallacies": ("valid", "invalid"),
  "geometric_shapes": LETTERED,
  "hyperbaton": LETTERED,
  "logical_deduction_five_objects": LETTERED,
  "logical_deduction_seven_objects": LETTERED,
  "logical_deduction_three_objects": LETTERED,
  "movie_recommendation": LETTERED,
  "multistep_arithmetic_two": FREE,
  "navigate": ("Yes", "No"),
  "object_counting": FREE,
  "penguins_in_a_table": LETTERED,
  "reasoning_about_colored_objects": LETTERED,
  "ruin_names": LETTERED,
  "salient_translation_error_detection": LETTERED,
  "snarks": LETTERED,
  "sports_understanding": ("yes", "no"),
  "temporal_sequences": LETTERED,
  "tracking_shuffled_objects_five_objects": LETTERED,
  "tracking_shuffled_objects_seven_objects": LETTERED,
  "tracking_shuffled_objects_three_objects": LETTERED,
  "web_of_lies": ("Yes", "No"),
  "word_sorting": FREE,
}
EXEMPLAR = re.compile(r"^Q: (.*?)\nA: (.*?) So the answer is (.*?)\.$", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"^\([A-Z]\)", re.MULTILINE)
OPENING = re.compile(r"^Let's think step by step\.\s*")


def question(text: str, answer: str, choices: tuple[str, ...] | None) -> dict[str, Any] | None:
  """A record; None where the answer is none of the choices, as three published ones are not."""
  made: dict[str, Any] = {"question": text.strip(), "answer": answer.strip()}
  if choices is not None:
    made["choices"] = list(choices or OPTION.findall(text))
    if made["answer"] not in made["choices"]:
      return None
  return made


def _examples(file: _local.Located, choices: tuple[str, ...] | None) -> Iterator[Example]:
  path = file.found()
  try:
    rows = json.loads(path.read_text(encoding="utf-8"))["examples"]
    found = [question(row["input"], row["target"], choices) for row in rows]
  except (ValueError, KeyError, TypeError) as e:
    raise UserError(
      f"{path}: no file of BIG-bench-hard ({type(e).__name__}: {e}): it has 'examples', each with "
      "'input' and 'target'"
    ) from None
  return (record for record in found if record is not None)


def _exemplars(file: _local.Located, choices: tuple[str, ...] | None) -> Iterator[Example]:
  for text, reason, answer in EXEMPLAR.findall(file.found().read_text(encoding="utf-8")):
    record = question(text, answer, choices)
    if record is not None:
      yield {**record, "rationale": OPENING.sub("", reason).strip()}


def _set(task: str, choices: tuple[str, ...] | None) -> Prompted:
  what = "BIG-bench-hard"
  return Prompted(
    f"bbh_{task}",
    "bbh",
    {
      "train": functools.partial(
        _exemplars, _local.Located(VARIABLE, f"cot-prompts/{task}.txt", what), choices
      ),
      "test": functools.partial(_examples, _local.Located(VARIABLE, f"{task}.json", what), choices),
    },
    (*_templates.open_questions(), *_templates.reasoned()),
    ("exact_match",) if choices is None else ("accuracy",),
    _templates.ANSWER,
    "MIT",
    local=False,
  )


SETS = tuple(_set(task, choices) for task, choices in TASKS.items())
