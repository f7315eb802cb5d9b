"""Your own files as tasks, and as prompts: JSON lines, text and CSV, plain or gzipped.

In a module of your own, which MIXTURE_OR_TASK_MODULE or an `import` of a gin file names:

    from mtm.data.sources.files import jsonl_task

    jsonl_task(
      "questions",
      {"train": "train.jsonl", "validation": "dev.jsonl"},
      inputs="question",
      targets="answer",
    )

Files are read when the task is, so that a missing one stops only its own task.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mtm.data import registry
from mtm.data.sources import _text
from mtm.data.sources._text import StrPath
from mtm.data.vocabulary import SentencePiece
from mtm.errors import UserError, nearest

Files = Mapping[str, StrPath | Sequence[StrPath]]  # split → file or files
Fields = Mapping[str, str]  # feature → field
Reader = Callable[[StrPath, Fields], Iterator[dict[str, str]]]
Metric = Callable[..., Mapping[str, Any]]

# Splits up to this size are read at once: what is wrong with a line is then told before anything
# starts, and without the tracebacks that TensorFlow logs when a generator under it fails.
HELD_BYTES = 64 * 2**20

_ours: set[str] = set()  # tasks that this module registered: those may be registered again


def jsonl_task(
  name: str,
  files: Files,
  *,
  targets: str = "targets",
  inputs: str | None = None,
  vocabulary: Any = None,
  metrics: Sequence[Metric] = (),
) -> None:
  """Registers JSON-lines files, one object a line, as a SeqIO task.

  Calling it again with the same name replaces the task, so a notebook cell can be run twice.

  Args:
    name: what MIXTURE_OR_TASK_NAME will say.
    files: split → file or files; relative ones are looked up in the current directory.
    targets: the field to predict.
    inputs: the field to predict it from; None for language modelling of `targets` alone.
    vocabulary: a path of a SentencePiece model, a vocabulary of `mtm.data.vocabulary`, or a SeqIO
      one; None: the vocabulary of the standard library, which spells any text.
    metrics: SeqIO metric functions `(targets, predictions)` or `(targets, scores)` → name → number.

  Raises:
    UserError: the name is taken or malformed. When the task is read, with file and line: a file is
      missing, empty, damaged or not UTF-8; a line is no JSON object or lacks a field.
  """
  _register(name, files, read_jsonl, _fields(inputs, targets), vocabulary, metrics)


def csv_task(
  name: str,
  files: Files,
  *,
  targets: str = "targets",
  inputs: str | None = None,
  delimiter: str = ",",
  vocabulary: Any = None,
  metrics: Sequence[Metric] = (),
) -> None:
  """Registers CSV files, whose first row names the columns, as a SeqIO task.

  See `jsonl_task`; `inputs` and `targets` name columns, and `delimiter` is one character.
  """

  def read(path: StrPath, fields: Fields) -> Iterator[dict[str, str]]:
    return read_csv(path, fields, delimiter)

  _register(name, files, read, _fields(inputs, targets), vocabulary, metrics)


def text_task(
  name: str,
  files: Files,
  *,
  split: Callable[[StrPath], Iterator[str]] | None = None,
  vocabulary: Any = None,
  metrics: Sequence[Metric] = (),
) -> None:
  """Registers text files as a SeqIO task for language modelling.

  See `jsonl_task`. `split` says what a document is: `lines` (the default), `paragraphs`, `whole`,
  or a function of your own from a path to its documents.
  """

  def read(path: StrPath, fields: Fields) -> Iterator[dict[str, str]]:
    del fields
    return ({"targets": text} for text in (split or lines)(path))

  _register(name, files, read, {"targets": "text"}, vocabulary, metrics)


def lines(path: StrPath) -> Iterator[str]:
  """Every line that is not blank."""
  return (line for _, line in _text.lines(path) if line.strip())


def paragraphs(path: StrPath) -> Iterator[str]:
  """What blank lines separate, inner line ends kept."""
  held: list[str] = []
  for _, line in _text.lines(path):
    if line.strip():
      held.append(line)
    elif held:
      yield "\n".join(held)
      held = []
  if held:
    yield "\n".join(held)


def whole(path: StrPath) -> Iterator[str]:
  """The file as one document."""
  text = _text.whole(path)
  if text:
    yield text


def read_jsonl(path: StrPath, fields: Fields) -> Iterator[dict[str, str]]:
  """Examples: feature → text of the field that `fields` names; raises as `jsonl_task` says."""
  for number, record in _objects(path):
    yield {to: _field(record, name, f"{path}:{number}") for to, name in fields.items()}


def read_csv(path: StrPath, fields: Fields, delimiter: str = ",") -> Iterator[dict[str, str]]:
  """Examples: feature → text of the column that `fields` names; raises as `csv_task` says."""
  rows = csv.reader(
    (f"{line}\n" for _, line in _text.lines(path)), delimiter=delimiter, strict=True
  )
  try:
    header = next(rows, [])
    for name in fields.values():
      if header and name not in header:
        raise UserError(f"{path}:1: no column {name!r}{nearest(name, header)}")
    for row in rows:
      if row and len(row) != len(header):
        raise UserError(
          f"{path}:{rows.line_num}: {len(row)} cells where the header has {len(header)}; "
          "quote cells that hold the delimiter"
        )
      if row:
        yield {to: row[header.index(name)] for to, name in fields.items()}
  except csv.Error as e:
    raise UserError(f"{path}:{rows.line_num}: not CSV ({e})") from None


def read_prompts(path: StrPath, field: str = "inputs") -> Iterator[dict[str, Any]]:
  """Records to infer from, each with a text under `field`, and under `targets` where it has them.

  Of a `.jsonl` or `.json` file (also gzipped) every line is an object, whose other fields are kept.
  Of any other file, and of standard input (`-`), every line that is not blank is a prompt; on
  standard input, lines are taken for objects if the first one starts with a brace.

  Args:
    path: the file, or `-`.
    field: where the prompt is.

  Raises:
    UserError: with file and line, as `jsonl_task`.
  """
  numbered = _text.lines(path)
  held = [(number, line) for number, line in [next(numbered, (1, ""))]]
  names = pathlib.Path(path).suffixes
  as_json = ".jsonl" in names or ".json" in names
  as_json = as_json or (str(path) == "-" and held[0][1].lstrip().startswith("{"))
  count = 0
  for number, line in _chained(held, numbered):
    if not line.strip():
      continue
    count += 1
    if as_json:
      where = f"{path}:{number}"
      record = _parsed(line, where)
      texts = [field, *(["targets"] if "targets" in record else [])]
      yield {**record, **{name: _field(record, name, where) for name in texts}}
    else:
      yield {field: line}
  if not count:
    raise UserError(f"{path}: no prompts in it; put one on each line")


def _chained(first: list[tuple[int, str]], rest: Iterator[tuple[int, str]]) -> Iterator[Any]:
  yield from first
  yield from rest


def _objects(path: StrPath) -> Iterator[tuple[int, dict[str, Any]]]:
  for number, line in _text.lines(path):
    if line.strip():
      yield number, _parsed(line, f"{path}:{number}")


def _parsed(line: str, where: str) -> dict[str, Any]:
  try:
    record = json.loads(line)
  except json.JSONDecodeError as e:
    raise UserError(
      f"{where}: not JSON ({e.msg}, column {e.colno}); mend or drop the line"
    ) from None
  if not isinstance(record, dict):
    raise UserError(f"{where}: a JSON {type(record).__name__}, not an object with fields")
  return record


def _field(record: Mapping[str, Any], name: str, where: str) -> str:
  """The field as text; numbers are written as JSON writes them."""
  if name not in record:
    raise UserError(f"{where}: no field {name!r}{nearest(name, record)}")
  value = record[name]
  if isinstance(value, str):
    return value
  if isinstance(value, int | float):
    return json.dumps(value)
  raise UserError(f"{where}: field {name!r} is {json.dumps(value)[:40]}, not a text")


def _fields(inputs: str | None, targets: str) -> dict[str, str]:
  return {"targets": targets} if inputs is None else {"inputs": inputs, "targets": targets}


@dataclasses.dataclass(frozen=True)
class _Files:
  """split → examples, read afresh each time."""

  name: str
  files: Files
  read: Reader
  fields: Fields

  @property
  def label(self) -> str:
    """The names of the files."""
    return ", ".join(str(path) for split in self.files for path in self.paths(split))

  def paths(self, split: str) -> list[StrPath]:
    """The files of a split."""
    given = self.files[split]
    return [given] if isinstance(given, str | os.PathLike) else list(given)

  def size(self, split: str) -> int:
    """Bytes of a split; a missing file, which the reader tells about, counts 0."""
    known = [path for path in map(pathlib.Path, self.paths(split)) if path.is_file()]
    return sum(path.stat().st_size for path in known)

  def __call__(self, split: str) -> Iterator[dict[str, str]]:
    count = 0
    for path in self.paths(split):
      for record in self.read(path, self.fields):
        count += 1
        yield record
    if not count:
      names = ", ".join(map(str, self.paths(split)))
      raise UserError(f"{names}: no examples in it for the split {split!r} of task {self.name!r}")


def _register(
  name: str,
  files: Files,
  read: Reader,
  fields: Fields,
  vocabulary: Any,
  metrics: Sequence[Metric],
) -> None:
  """Registers, now or when tasks are first looked up, a task over these files."""
  if not files:
    raise UserError(f"task {name!r} has no files: give for example {{'train': 'train.jsonl'}}")
  records = _Files(name, dict(files), read, dict(fields))

  def add() -> None:
    from mtm.data._tensorflow import seqio
    from mtm.data.sources import _records

    known = {*seqio().TaskRegistry.names(), *seqio().MixtureRegistry.names()}
    if name in known - _ours:
      raise UserError(f"a task or mixture {name!r} is registered already: choose another name")
    if name in known:
      seqio().TaskRegistry.remove(name)
    origin = _records.Origin(records, list(files), list(fields), records.label)

    def dataset(split: str) -> Any:
      return (origin.held if records.size(split) <= HELD_BYTES else origin.streamed)(split)

    feature = seqio().Feature(seqio_vocabulary(vocabulary), add_eos=True)
    try:
      seqio().TaskRegistry.add(
        name,
        source=_records.source(origin, dataset),
        preprocessors=[seqio().preprocessors.tokenize, seqio().preprocessors.append_eos],
        output_features={key: feature for key in fields},
        metric_fns=list(metrics),
      )
    except ValueError as e:
      raise UserError(f"task {name!r}: {e}") from e
    _ours.add(name)

  registry.declare(add)


def seqio_vocabulary(vocabulary: Any) -> Any:
  """What `jsonl_task` takes as a vocabulary, as a SeqIO one."""
  from mtm.data.lazy_vocabulary import lazy_seqio
  from mtm.data.sources import stdlib

  if vocabulary is None:
    return lazy_seqio(stdlib.vocabulary)
  if isinstance(vocabulary, str | os.PathLike):
    return SentencePiece(str(vocabulary)).to_seqio()
  return vocabulary.to_seqio() if hasattr(vocabulary, "to_seqio") else vocabulary
