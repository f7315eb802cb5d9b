"""Exemplars before a question: k of them, balanced, seeded, without the question itself."""

from __future__ import annotations

import collections
import dataclasses
import functools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from mtm.errors import UserError
from mtm.prompts.prompted import Prompted
from mtm.prompts.template import Example, Rendered, Template

Length = Callable[[str], int]  # tokens of a text
TRIES = 32  # exemplars that are passed over because they are too long, beside `k`


@dataclasses.dataclass(frozen=True)
class Shots:
  """What stands before a question (2005.14165, §2.4).

  Which exemplars a question gets depends on `seed` and the question alone, never on its
  neighbours.

  Attributes:
    k: how many exemplars.
    split: where they come from.
    seed: another seed draws others.
    balanced: as equally many of each choice as can be, in random order.
    separator: after each exemplar.
    budget: tokens that exemplars, question and its longest answer may take together; exemplars too
      long for it are passed over; None: any number.
    strict: fewer than `k` are an error, else they are what the question gets.
    fixed: every question of a template gets the same exemplars (but never itself).
    pool: exemplars are drawn from the first so many records of `split`; None: from all.

  Raises:
    UserError: k is negative.
  """

  k: int = 0
  split: str = "train"
  seed: int = 0
  balanced: bool = True
  separator: str = "\n\n"
  budget: int | None = None
  strict: bool = True
  fixed: bool = False
  pool: int | None = 10_000

  def __post_init__(self) -> None:
    if self.k < 0:
      raise UserError(f"k = {self.k}: a question has 0 exemplars or more")

  def prompt(
    self, data: Prompted, template: Template, example: Example, length: Length | None = None
  ) -> Rendered:
    """The question with its exemplars before it.

    Args:
      data: where exemplars come from.
      template: asks the exemplars and the question.
      example: the record in question.
      length: counts tokens; needed where there is a budget.

    Raises:
      UserError: the question leaves no room for `k` exemplars, the split has too few, or as
        `Template.render` and `Prompted.examples` do.
    """
    question = template.render(example)
    if not self.k:
      return question
    taken = 0
    if self.budget is not None:
      if length is None:
        raise ValueError("a budget needs `length`, which counts tokens")
      answers = question.choices or (question.targets,)
      taken = max(length(question.inputs + question.continuation(answer)) for answer in answers)
    where = f"set {data.name!r}, template {template.name!r}"
    texts = (e.text + self.separator for e in self.exemplars(data, template, question))
    drawn = self.fitted(texts, taken, length, where)
    return dataclasses.replace(question, inputs="".join(drawn) + question.inputs)

  def fitted(
    self, texts: Iterable[str], taken: int, length: Length | None, where: str
  ) -> list[str]:
    """The first `k` of the texts that the budget has room for.

    Args:
      texts: exemplars in the order in which they are wanted, with their separators.
      taken: tokens of the budget that the question needs.
      length: counts tokens; needed where there is a budget.
      where: names the set, for errors.

    Raises:
      UserError: there are fewer, and `strict`; or all of those looked at are longer than the budget
        alone.
    """
    room = None if self.budget is None else self.budget - taken
    drawn: list[str] = []
    passed: list[int] = []
    for text in texts:
      tokens = 0 if room is None or length is None else length(text)
      if room is not None and tokens > room:
        passed.append(tokens)
        if len(passed) > TRIES + self.k:
          break
        continue
      room = None if room is None else room - tokens
      drawn.append(text)
      if len(drawn) == self.k:
        return drawn
    self._check(drawn, passed, taken, where)
    return drawn

  def _check(self, drawn: Sequence[str], passed: Sequence[int], taken: int, where: str) -> None:
    """Raises UserError where fewer than `k` exemplars are too few."""
    context = f"a context of {self.budget} tokens"
    if not drawn and passed and min(passed) > (self.budget or 0):
      raise UserError(
        f"{where}: its exemplars take {min(passed)} tokens and more each, longer than {context}: "
        "give it more, or take k = 0"
      )
    if self.strict and passed:
      raise UserError(
        f"{where}: {self.k} exemplars do not fit into {context}, of which the question takes "
        f"{taken}, only {len(drawn)}: take a smaller k, or a longer context"
      )
    if self.strict:
      raise UserError(
        f"{where}: the split {self.split!r} has {len(drawn)} exemplars for a question, not {self.k}"
      )

  def exemplars(self, data: Prompted, template: Template, question: Rendered) -> Iterator[Rendered]:
    """All exemplars of a question, in the order in which they are wanted."""
    named = "" if self.fixed else question.key
    rng = random.Random(f"{self.seed}:{data.name}:{template.name}:{named}")
    groups = _groups(data, template, self.split, self.pool, self.balanced)
    orders = [_shuffled(group, rng) for group in rng.sample(groups, len(groups))]
    pending = collections.deque(orders)
    while pending:
      # A round takes one of every group, in an order of its own: no label has a place of its own.
      this_round = list(pending)
      rng.shuffle(this_round)
      for order in this_round:
        found = next(
          (e for e in map(template.render, order) if not _same(e, question) and e.targets), None
        )
        if found is None:
          pending.remove(order)
        else:
          yield found


def _same(exemplar: Rendered, question: Rendered) -> bool:
  return exemplar.key == question.key or exemplar.inputs == question.inputs


def _shuffled(group: tuple[Example, ...], rng: random.Random) -> Iterator[Example]:
  """All of a group in random order, without copying it: only the first few are asked for."""
  count = len(group)
  taken: dict[int, int] = {}
  for i in range(count):  # Fisher and Yates, on a list that exists only where it was touched
    j = rng.randrange(i, count)
    yield group[taken.get(j, j)]
    taken[j] = taken.pop(i, i)


@functools.lru_cache(maxsize=64)
def _groups(
  data: Prompted, template: Template, split: str, pool: int | None, balanced: bool
) -> list[tuple[Example, ...]]:
  """Exemplars by their choice; one group where there are no choices, or none is wanted."""
  groups: dict[int | None, list[Example]] = {}
  for example in data.held(split, pool):
    label = template.gold(example) if balanced else None
    groups.setdefault(label, []).append(example)
  return [tuple(groups[label]) for label in sorted(groups, key=lambda g: -1 if g is None else g)]
