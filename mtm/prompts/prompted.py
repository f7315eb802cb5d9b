"""A set of records with the templates that ask them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from mtm.errors import UserError, nearest
from mtm.prompts.template import Example, Template

Reader = Callable[[], Iterable[Example]]


@dataclasses.dataclass(frozen=True, eq=False)
class Prompted:
  """Records by split, read when they are asked for, and their templates.

  Attributes:
    name: letters, digits, dots and underscores.
    cluster: the kind of task, for held-out clusters.
    splits: split → its records, always in the same order.
    templates: with different names.
    metrics: names in `mtm.evaluation.metrics`, such as "accuracy".
    extract: a regular expression whose first group is the final answer in a generated text; None:
      all of the text is; see `extracted`.
    licence: of the records.
    version: changes when the records do.
    sizes: split → records in it, where that is known without reading.
    local: whether the records are on every machine, so that nothing is downloaded.

  Raises:
    UserError: there are no templates, or two have one name.
  """

  name: str
  cluster: str
  splits: Mapping[str, Reader]
  templates: tuple[Template, ...]
  metrics: tuple[str, ...] = ("accuracy",)
  extract: str | None = None
  licence: str = ""
  version: str = ""
  sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  local: bool = True

  def __post_init__(self) -> None:
    names = [template.name for template in self.templates]
    if not names or len(set(names)) < len(names):
      raise UserError(f"set {self.name!r} needs templates, each with a name of its own: {names}")

  def template(self, name: str) -> Template:
    """The template called so. Raises UserError where there is none."""
    for template in self.templates:
      if template.name == name:
        return template
    names = [template.name for template in self.templates]
    raise UserError(f"set {self.name!r} has no template {name!r}{nearest(name, names)}")

  def asking(self, reasons: bool = False) -> tuple[Template, ...]:
    """The templates that want a rationale before the answer, or the others.

    Raises:
      UserError: there are none.
    """
    found = tuple(template for template in self.templates if template.reasons == reasons)
    if not found:
      kind = "with a rationale" if reasons else "without a rationale"
      raise UserError(f"set {self.name!r} has no template {kind}")
    return found

  def sampled(self, key: str, seed: int = 0, among: Sequence[Template] | None = None) -> Template:
    """The template that falls to the record with this digest; None: among those of `asking()`."""
    among = self.asking() if among is None else among
    number = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return among[int.from_bytes(number[:8], "big") % len(among)]

  def extracted(self, text: str) -> str:
    """The final answer in a generated text, without blanks around it: the last match of `extract`,
    else all of the text."""
    found = list(re.finditer(self.extract, text, re.MULTILINE)) if self.extract else []
    return (found[-1].group(1) if found else text).strip()

  def examples(self, split: str) -> Iterator[Example]:
    """The records of a split.

    Raises:
      UserError: there is no such split, or it is empty.
    """
    if split not in self.splits:
      raise UserError(f"set {self.name!r} has no split {split!r}{nearest(split, self.splits)}")
    empty = True
    for example in self.splits[split]():
      empty = False
      yield example
    if empty:
      raise UserError(f"set {self.name!r}: its split {split!r} is empty")

  def held(self, split: str, most: int | None = None) -> tuple[Example, ...]:
    """The first records of a split, `most` of them, in memory; raises as `examples` does."""
    return _held(self, split, most)

  def size(self, split: str) -> int:
    """How many records a split has; they are read if that is not known."""
    known = self.sizes.get(split)
    return sum(1 for _ in self.examples(split)) if known is None else known


@functools.lru_cache(maxsize=16)
def _held(data: Prompted, split: str, most: int | None) -> tuple[Example, ...]:
  return tuple(itertools.islice(data.examples(split), most))
