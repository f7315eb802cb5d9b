"""From docstrings to names, and from code to docstrings: this Python's standard library."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from mtm.data.sources import stdlib
from mtm.prompts.prompted import Prompted, Reader
from mtm.tasks import _templates

CHARACTERS = 600  # of code, or of a docstring, at most
CHOICES = 4

NAME_TEMPLATES = (
  *_templates.numbered(
    '"""{docstring}"""\nWhich function is this?\n{options}\nAnswer:',
    "Docstring: {docstring}\n{options}\nName:",
    "{docstring}\nWhat is described above?\n",
    "Choose the function that does this.\n{docstring}\n{options}\nChoice:",
    "Q: What is the name of the function with this docstring?\n{docstring}\n{options}\nA:",
    "{options}\nOne of these does the following: {docstring}\nIt is",
    "User: Which function is documented so?\n{docstring}\n{options}\nAssistant:",
  ),
  *_templates.numbered(
    "Name a function that is documented so: {docstring}\nName:",
    "# {docstring}\ndef",
    "Documentation\n{docstring}\n\nFunction\n",
    prefix="free",
    choices=(),
  ),
)
DOCSTRING_TEMPLATES = _templates.numbered(
  "{code}\nWhat does this do?\n",
  "Code:\n{code}\nDocstring:",
  "Write a short docstring for this function.\n{code}\nDocstring:",
  "Q: Summarise the code in one sentence.\n{code}\nA:",
  "```python\n{code}\n```\nIn words:",
  "User: Explain this function.\n{code}\nAssistant:",
  "{code}\n# Documentation:",
  "Describe briefly what the function below does.\n\n{code}\n\nDescription:",
  "Here is a function of Python's library.\n{code}\nIt does this:",
  "Function\n{code}\n\nSummary\n",
)
Records = Callable[[str], Iterator[dict[str, Any]]]


def names(split: str) -> Iterator[dict[str, Any]]:
  """A docstring's first paragraph and four names, one of which it documents and does not tell."""
  found = [
    (name.rsplit(".", 1)[-1].rsplit(":", 1)[-1], docstring.split("\n\n")[0])
    for name, _, docstring in stdlib.pairs(split)
  ]
  known = sorted({name for name, _ in found if not name.startswith("_")})
  seen: set[tuple[str, str]] = set()
  for name, docstring in found:
    hidden = not re.search(rf"\b{re.escape(name)}\b", docstring) and not name.startswith("_")
    if hidden and 20 < len(docstring) <= CHARACTERS and (name, docstring) not in seen:
      seen.add((name, docstring))
      rng = random.Random(f"{name}:{docstring}")
      others = rng.sample([other for other in rng.sample(known, 8) if other != name], CHOICES - 1)
      choices = [name, *others]
      rng.shuffle(choices)
      yield {"docstring": docstring, "choices": choices, "gold": choices.index(name)}


def docstrings(split: str) -> Iterator[dict[str, Any]]:
  """A function's code without its docstring, whose first paragraph is the answer."""
  for code, docstring in stdlib.functions(split):
    first = " ".join(docstring.split("\n\n")[0].split())
    if len(code) <= CHARACTERS and 10 < len(first) <= CHARACTERS // 3:
      yield {"code": code, "answer": first}


def _splits(records: Records) -> dict[str, Reader]:
  return {split: functools.partial(records, split) for split in stdlib.SPLITS}


SETS = (
  Prompted(
    "docstring_to_name", "code", _splits(names), NAME_TEMPLATES, ("accuracy",),
    licence="PSF-2.0", version=stdlib.version(),
  ),
  Prompted(
    "code_to_docstring", "code", _splits(docstrings), DOCSTRING_TEMPLATES, ("rouge", "bleu"),
    licence="PSF-2.0", version=stdlib.version(),
  ),
)  # fmt: skip
