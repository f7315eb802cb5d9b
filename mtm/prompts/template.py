"""A template turns a record into a question, its answer and the answers to choose from.

Records are flat mappings. Beside fields of their own they may have these, which every template
understands: `choices` (texts), `gold` (the number of the right one), `answer` (a text), `answers`
(all accepted texts) and `rationale` (how one comes to the answer).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import string
from collections.abc import Mapping, Sequence
from typing import Any

from mtm.errors import UserError, nearest

Example = Mapping[str, Any]  # field → text, number or list of texts

OPTIONS = "OPTIONS:"
LETTERS = string.ascii_uppercase


@dataclasses.dataclass(frozen=True)
class Rendered:
  """One question as a model sees it. The whole text is `inputs + joiner + targets`.

  Attributes:
    inputs: what stands before the answer.
    targets: the answer that a model is trained on; empty where nobody knows it, or where it wants a
      rationale and the record has none.
    choices: the answers to choose from, as a model would write them; () to answer freely.
    gold: the number of the right choice; None where nobody knows it or there are no choices.
    references: accepted final answers: what an extraction from generated text is compared with.
    key: digest of the record.
    joiner: what stands between `inputs` and the answer; it belongs to the answer's tokens.
  """

  inputs: str
  targets: str
  choices: tuple[str, ...] = ()
  gold: int | None = None
  references: tuple[str, ...] = ()
  key: str = ""
  joiner: str = ""

  def continuation(self, answer: str) -> str:
    """What a model writes after `inputs` to answer so."""
    return self.joiner + answer

  @property
  def text(self) -> str:
    """The question with its answer."""
    return self.inputs + self.continuation(self.targets)


@dataclasses.dataclass(frozen=True)
class Template:
  """How records of a set are asked.

  Texts name fields in braces, `{premise}`; a brace itself is doubled. `{options}` lists the
  choices, and `{answer}` is the right one.

  Attributes:
    name: unique among the templates of a set.
    inputs: the question.
    targets: the answer.
    choices: the field that lists the answers' texts (a record without `choices` is answered
      freely), or the texts themselves, which may name fields; () answers freely.
    joiner: between the question and its answer; None: a blank, or nothing after a line end.
    letters: list options as "(A) text", and answer "(A)".
    heading: the line above the options.
    original: whether the task is the set's own, not turned around ("write a premise that ..."):
      only such templates are evaluated.

  Raises:
    UserError: a text has unbalanced braces.
  """

  name: str
  inputs: str
  targets: str = "{answer}"
  choices: str | tuple[str, ...] = "choices"
  joiner: str | None = None
  letters: bool = False
  heading: str = OPTIONS
  original: bool = True

  def __post_init__(self) -> None:
    fixed = self.choices if isinstance(self.choices, tuple) else ()
    for text in (self.inputs, self.targets, *fixed):
      _parsed(self.name, text)

  @property
  def fields(self) -> frozenset[str]:
    """What the texts name, `answer` and `options` included."""
    names = {name for text in (self.inputs, self.targets) for _, name in _parsed(self.name, text)}
    return frozenset(names - {None})  # type: ignore[arg-type]

  def render(self, example: Example) -> Rendered:
    """The record as a question.

    Raises:
      UserError: a field is missing, or the right answer is none of the choices.
    """
    listed = self._choices(example)
    texts = tuple(f"({LETTERS[i]})" for i in range(len(listed))) if self.letters else listed
    gold = self._gold(example, listed) if listed else None
    known: dict[str, Any] = dict(example)
    answers = _answers(example, texts, gold)
    known["answer"] = answers[0] if answers else ""
    if texts:
      lines = [f"{t} {c}" for t, c in zip(texts, listed, strict=True)] if self.letters else [
        f"- {text}" for text in texts
      ]  # fmt: skip
      known["options"] = "\n".join([self.heading, *lines])
    inputs = _filled(self.name, self.inputs, known)
    hidden = (not answers and "answer" in self._asked) or (
      self.reasons and "rationale" not in known
    )
    targets = "" if hidden else _filled(self.name, self.targets, known)
    references = answers if "answer" in self._asked else (targets,)
    return Rendered(inputs, targets, texts, gold, references, digest(example), self._joins(inputs))

  def _joins(self, inputs: str) -> str:
    """What stands between these inputs and their answer."""
    if self.joiner is None:
      return " " if inputs and not inputs.endswith("\n") else ""
    return self.joiner if inputs else ""

  def gold(self, example: Example) -> int | None:
    """The number of the right choice, as in `render`; None where there are no choices."""
    listed = self._choices(example)
    return self._gold(example, listed) if listed else None

  @property
  def reasons(self) -> bool:
    """Whether the answer has a rationale before it (chain of thought)."""
    return "rationale" in self._asked

  @property
  def _asked(self) -> set[str | None]:
    return {name for _, name in _parsed(self.name, self.targets)}

  def _choices(self, example: Example) -> tuple[str, ...]:
    if isinstance(self.choices, tuple):
      return tuple(_filled(self.name, text, example) for text in self.choices)
    if self.choices not in example and self.choices == "choices":
      return ()
    found = _value(self.name, self.choices, example)
    if isinstance(found, str) or not isinstance(found, Sequence):
      raise UserError(
        f"template {self.name!r}: the field {self.choices!r} is {found!r:.40}, not a list of texts"
      )
    return tuple(map(str, found))

  def _gold(self, example: Example, listed: tuple[str, ...]) -> int | None:
    """The number of the right choice; None where the record hides it (no answer, gold below 0)."""
    gold = example.get("gold")
    if gold is None and "answer" in example:
      answer = str(example["answer"])
      if answer not in listed:
        raise UserError(
          f"template {self.name!r}: the answer {answer!r:.60} is none of the choices"
          f"{nearest(answer, listed)}"
        )
      return listed.index(answer)
    if gold is None or int(gold) < 0:
      return None
    if int(gold) >= len(listed):
      raise UserError(
        f"template {self.name!r}: the right answer is choice {int(gold)} (from 0), and there are "
        f"only {len(listed)}: {', '.join(listed)[:60]}"
      )
    return int(gold)


def digest(example: Example) -> str:
  """16 hexadecimal digits that change with any field of the record."""
  text = json.dumps(dict(example), sort_keys=True, ensure_ascii=False, default=str)
  return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _answers(example: Example, texts: tuple[str, ...], gold: int | None) -> tuple[str, ...]:
  """Accepted answers, the one to train on first; none where nobody knows."""
  if texts:
    return () if gold is None else (texts[gold],)
  first = [str(example["answer"])] if "answer" in example else []
  every = first + [str(answer) for answer in example.get("answers", ())]
  number = example.get("gold")
  if not every and number is not None and 0 <= int(number) < len(example.get("choices", ())):
    every = [str(example["choices"][int(number)])]
  return tuple(dict.fromkeys(every))


@functools.lru_cache(maxsize=4096)
def _parsed(template: str, text: str) -> tuple[tuple[str, str | None], ...]:
  """Pairs of plain text and the field after it."""
  try:
    parts = list(string.Formatter().parse(text))
  except ValueError as e:
    raise UserError(
      f"template {template!r}: {text!r:.60}: {e}; write {{{{ and }}}} for braces that name no field"
    ) from None
  for _, name, spec, conversion in parts:
    if name is not None and (not name.isidentifier() or spec or conversion):
      raise UserError(
        f"template {template!r}: {{{name}}} names no field; write {{{{ and }}}} for plain braces"
      )
  return tuple((plain, name) for plain, name, _, _ in parts)


def _filled(template: str, text: str, known: Mapping[str, Any]) -> str:
  out = []
  for plain, name in _parsed(template, text):
    out.append(plain)
    if name is not None:
      value = _value(template, name, known)
      listed = not isinstance(value, str) and isinstance(value, Sequence)
      out.append(", ".join(map(str, value)) if listed else str(value))
  return "".join(out)


def _value(template: str, name: str, known: Mapping[str, Any]) -> Any:
  if name not in known:
    raise UserError(
      f"template {template!r} names a field {name!r} that its records lack{nearest(name, known)}"
    )
  return known[name]
