"""Prompted sets over TFDS: whose fields become ours, in a line for each set."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mtm.prompts.prompted import Prompted
from mtm.prompts.template import Example, Template

Raw = Mapping[str, Any]
Write = Callable[[Raw], Example | None]  # None: the record is left out

TV = {"train": "train", "validation": "validation"}
TVT = {**TV, "test": "test"}
# Sets without a validation split lend 200 examples of their training split, as FLAN has it.
TT = {"train": "train[200:]", "validation": "train[:200]", "test": "test"}
T = {"train": "train[400:]", "validation": "train[:200]", "test": "train[200:400]"}
TRAINING = 30_000  # examples of a training split that are read (2109.01652, section 2.3)


@dataclasses.dataclass(frozen=True)
class Fields:
  """Writes a record of ours from one of theirs; `a/b` is the field b in a.

  Attributes:
    texts: our field → theirs.
    choices: the answers to choose from, in the order of the labels.
    options: instead: their fields that hold one answer each, or the one that holds all.
    gold: their number of the right choice; below 0 it is hidden.
    answer: instead of choices: their field of the answer, or of several accepted ones.
    first: what the first choice is numbered by.
  """

  texts: Mapping[str, str]
  choices: tuple[str, ...] = ()
  options: str | tuple[str, ...] = ()
  gold: str = "label"
  answer: str = ""
  first: int = 0

  def __call__(self, raw: Raw) -> Example | None:
    """Ours; None where there is no answer at all."""
    made: dict[str, Any] = {ours: _text(at(raw, theirs)) for ours, theirs in self.texts.items()}
    if self.answer:
      found = at(raw, self.answer)
      answers = [_text(found)] if isinstance(found, str | int | float) else [*map(_text, found)]
      return {**made, "answers": list(dict.fromkeys(answers))} if answers else None
    if isinstance(self.options, str) and self.options:
      made["choices"] = [_text(text) for text in at(raw, self.options)]
    else:
      made["choices"] = [_text(at(raw, f)) for f in self.options] or list(self.choices)
    gold = int(at(raw, self.gold)) - self.first
    if gold >= len(made["choices"]):
      return None
    return {**made, "gold": max(gold, -1)}


@dataclasses.dataclass(frozen=True)
class Split:
  """Reads one split; costs nothing until it is called.

  Attributes:
    name, split: see `mtm.data.sources.tfds.records`.
    write: makes our record.
    most: at most so many.
  """

  name: str
  split: str
  write: Write
  most: int | None = None

  def __call__(self) -> Iterator[Example]:
    from mtm.data.sources import tfds

    found = map(self.write, tfds.records(self.name, self.split))
    return itertools.islice((made for made in found if made is not None), self.most)


class Sizes(Mapping[str, int]):
  """Split → records, as TFDS tells when it is asked."""

  def __init__(self, splits: Mapping[str, Split]) -> None:
    self._splits = splits

  def __getitem__(self, split: str) -> int:
    from mtm.data.sources import tfds

    read = self._splits[split]
    count = tfds.count(read.name, read.split)
    return count if read.most is None else min(count, read.most)

  def __iter__(self) -> Iterator[str]:
    return iter(self._splits)

  def __len__(self) -> int:
    return len(self._splits)


def made(
  name: str,
  cluster: str,
  tfds_name: str,
  write: Write,
  templates: tuple[Template, ...],
  splits: Mapping[str, str] = TV,
  metrics: tuple[str, ...] = ("accuracy",),
) -> Prompted:
  """A set over TFDS; `splits` is ours → theirs, see `Prompted` for the others."""
  read = {
    ours: Split(tfds_name, theirs, write, TRAINING if ours == "train" else None)
    for ours, theirs in splits.items()
  }
  return Prompted(
    name, cluster, read, templates, metrics, version=tfds_name, sizes=Sizes(read), local=False
  )


def at(raw: Raw, path: str) -> Any:
  """The value at `a/b`; of a list of dictionaries, the list of their values."""
  value: Any = raw
  for part in path.split("/"):
    value = [inner[part] for inner in value] if isinstance(value, list) else value[part]
  return value


def _text(value: Any) -> str:
  return value.strip() if isinstance(value, str) else str(value)
