"""Where the examples of an inference come from: a task, a file, standard input."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from mtm.data.vocabulary import terminated

# `inputs` (text) and `inputs_ids`; where known `targets` and `targets_ids`, and further fields.
Example = Mapping[str, Any]


class Source(Protocol):
  """Where examples come from."""

  def examples(self, vocabulary: Any, encoder: bool) -> Iterator[Example]:
    """Examples in order, the same at every call; `encoder`: whether inputs go to an encoder."""


@dataclasses.dataclass(frozen=True)
class FromTask:
  """Examples of a SeqIO task or mixture.

  Attributes:
    data: a `mtm.data.pipeline.Dataset`.
    limit: how many examples; None: all.
  """

  data: Any
  limit: int | None = None

  def examples(self, vocabulary: Any, encoder: bool) -> Iterator[Example]:
    """See `Source.examples`."""
    del encoder
    for example in self.data.examples(self.limit):
      row: dict[str, Any] = {}
      for name in ("inputs", "targets"):
        if name in example:
          ids = [int(i) for i in example[name]]
          row[f"{name}_ids"] = ids
          text = example.get(f"{name}_pretokenized")
          row[name] = vocabulary.decode(ids) if text is None else text
      yield {"inputs": "", "inputs_ids": [], **row}


@dataclasses.dataclass(frozen=True)
class FromFile:
  """Lines of a text file, or of a JSONL file whose objects have `field` (and `targets` to score).

  Attributes:
    path: the file; `-` is standard input, read as JSONL where lines are objects.
    field: the name of the input in a JSONL file.
  """

  path: str
  field: str = "inputs"

  def examples(self, vocabulary: Any, encoder: bool) -> Iterator[Example]:
    """See `Source.examples`."""
    from mtm.data.sources.files import read_prompts

    for record in read_prompts(self.path, self.field):
      text = record[self.field]
      row = {
        **record,
        "inputs_ids": terminated(vocabulary, text) if encoder else vocabulary.encode(text),
      }
      if "targets" in record:
        row["targets_ids"] = terminated(vocabulary, record["targets"])
      yield row
