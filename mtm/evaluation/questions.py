"""The questions of an evaluation: records of a set, a template, exemplars."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mtm.evaluation.digests import digest
from mtm.prompts.prompted import Prompted
from mtm.prompts.shots import Shots
from mtm.prompts.template import Example, Rendered, Template

Length = Callable[[str], int]


@dataclasses.dataclass(frozen=True)
class Question:
  """One question.

  Attributes:
    data, template, record: what is asked, and of what.
    rendered: the question with its exemplars.
    exemplars: the text before it.
  """

  data: Prompted
  template: Template
  record: Example
  rendered: Rendered
  exemplars: str = ""

  @property
  def inputs(self) -> str:
    """What stands before the answer."""
    return self.rendered.inputs

  @property
  def choices(self) -> tuple[str, ...]:
    """The answers to choose from; () to answer freely."""
    return self.rendered.choices

  @property
  def continuations(self) -> tuple[str, ...]:
    """The choices as they follow the inputs."""
    return tuple(map(self.rendered.continuation, self.choices))

  def blank(self, content: str, exemplars: bool) -> str:
    """The inputs with `content` in all fields but those that list the choices.

    Args:
      content: a text without content, such as "N/A".
      exemplars: whether they stand before it.
    """
    kept = {"options", "choices"}
    if isinstance(self.template.choices, str):
      kept |= {self.template.choices}
    fields = {name: content for name in self.template.fields - kept if name in self.record}
    known = {name: value for name, value in self.record.items() if name not in HIDING}
    asked = dataclasses.replace(self.template, targets="")
    before = self.exemplars if exemplars else ""
    return before + asked.render({**known, **fields, "gold": -1}).inputs

  @property
  def digest(self) -> str:
    """16 hexadecimal digits that change with what is asked and what is right."""
    told = (self.inputs, self.continuations, self.rendered.gold, self.rendered.references)
    return digest(told)


HIDING = ("answer", "answers")  # say which choice is the right one


def ask(
  data: Prompted, template: Template, split: str, shots: Shots, length: Length | None = None,
  limit: int | None = None,
) -> Iterator[Question]:  # fmt: skip
  """The questions of a split, those left out whose answer nobody knows.

  Args:
    data: the set.
    template: asks.
    split: whose records.
    shots: exemplars.
    length: counts tokens; needed where `shots` has a budget.
    limit: at most so many; None: all.

  Raises:
    UserError: as `Shots.prompt` does.
  """
  count = 0
  for record in data.examples(split):
    if limit is not None and count >= limit:
      return
    rendered = shots.prompt(data, template, record, length)
    if not rendered.targets and rendered.gold is None and not rendered.references:
      continue
    own = template.render(record).inputs
    before = rendered.inputs[: len(rendered.inputs) - len(own)]
    yield Question(data, template, record, rendered, before)
    count += 1


def identity(data: Prompted) -> Mapping[str, Any]:
  """What a set is, apart from its records: for digests."""
  templates = [dataclasses.asdict(template) for template in data.templates]
  return {
    "name": data.name, "version": data.version, "metrics": data.metrics, "extract": data.extract,
    "templates": templates,
  }  # fmt: skip
