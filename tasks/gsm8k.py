"""GSM8K (2110.14168): grade-school mathematics with rationales, from JSONL files of your own.

MTM_GSM8K names the directory with `train.jsonl` and `test.jsonl`; the first 200 of training are the
validation split.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator

from mtm.data.sources.files import read_jsonl
from mtm.errors import UserError
from mtm.prompts.prompted import Prompted
from mtm.prompts.template import Example
from mtm.tasks import _local, _templates

VARIABLE = "MTM_GSM8K"
HELD_OUT = 200
NUMBER = r"(?i)\banswer is:?\s*\$?(-?\d[\d,]*(?:\.\d+)?)"
FIELDS = {"question": "question", "answer": "answer"}
CALCULATION = re.compile(r"<<[^>]*>>")  # what a calculator is asked, which no reader sees


def problem(raw: Example) -> Example:
  """Splits the rationale from the final number, which may have commas and is accepted without."""
  rationale, mark, number = raw["answer"].rpartition("####")
  if not mark:
    raise UserError(f"a problem of GSM8K has no '####' before its answer: {raw['answer']!r:.60}")
  number = number.strip()
  return {
    "question": raw["question"].strip(),
    "rationale": " ".join(CALCULATION.sub("", rationale).split("\n")).strip(),
    "answers": list(dict.fromkeys([number.replace(",", ""), number])),
  }


def _read(file: _local.Located, first: int, last: int | None) -> Iterator[Example]:
  return map(problem, itertools.islice(read_jsonl(file.found(), FIELDS), first, last))


def _split(
  name: str, first: int = 0, last: int | None = None
) -> functools.partial[Iterator[Example]]:
  return functools.partial(_read, _local.Located(VARIABLE, f"{name}.jsonl", "GSM8K"), first, last)


SETS = (
  Prompted(
    "gsm8k",
    "mathematics",
    {
      "train": _split("train", HELD_OUT),
      "validation": _split("train", 0, HELD_OUT),
      "test": _split("test"),
    },
    (*_templates.open_questions(), *_templates.reasoned()),
    ("exact_match",),
    NUMBER,
    "MIT",
    local=False,
  ),
)
