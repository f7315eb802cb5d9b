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

  def examples(self, vocabulary: Any, encoder: bool, framed: bool = False) -> Iterator[Example]:
    """Examples in order, the same at every call.

    Args:
      vocabulary: text ↔ ids.
      encoder: whether inputs go to an encoder.
      framed: see `encoded`.
    """


def encoded(vocabulary: Any, text: str, encoder: bool, framed: bool = False) -> list[int]:
  """The ids of a text as a model was trained to read it.

  Args:
    vocabulary: text ↔ ids.
    text: the text.
    encoder: whether an encoder reads it; then it ends with the end-of-sequence id.
    framed: whether it stands between the special ids that its original's tokenizer puts around it,
      where the vocabulary knows them.
  """
  if framed and hasattr(vocabulary, "framed"):
    return vocabulary.framed(text)
  return terminated(vocabulary, text) if encoder else vocabulary.encode(text)


@dataclasses.dataclass(frozen=True)
class FromTask:
  """Examples of a SeqIO task or mixture.

  Attributes:
    data: a `mtm.data.pipeline.Dataset`.
    limit: how many examples; None: all.
  """

  data: Any
  limit: int | None = None

  def examples(self, vocabulary: Any, encoder: bool, framed: bool = False) -> Iterator[Example]:
    """See `Source.examples`; a task has its own ends."""
    del encoder, framed
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

  def examples(self, vocabulary: Any, encoder: bool, framed: bool = False) -> Iterator[Example]:
    """See `Source.examples`."""
    from mtm.data.sources.files import read_prompts

    for record in read_prompts(self.path, self.field):
      text = record[self.field]
      row = {
        **record,
        "inputs_ids": encoded(vocabulary, text, encoder, framed),
      }
      if "targets" in record:
        row["targets_ids"] = encoded(vocabulary, record["targets"], True, framed and encoder)
      yield row
