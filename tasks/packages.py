"""Which package of the standard library a piece of code comes from: as a class, and as text."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

from mtm.data.sources import stdlib

# Of every Python, on every system, and of some size.
PACKAGES = ("asyncio", "email", "importlib", "multiprocessing", "unittest", "xml")
CHARACTERS = 300  # of a piece, which is cut at line ends
SPLITS = stdlib.SPLITS
LICENCES = {name: "PSF-2.0" for name in ("stdlib_packages", "stdlib_packages_text")}


def register() -> None:
  """Registers `stdlib_packages` (a label) and `stdlib_packages_text` (text to text)."""
  from mtm.data.lazy_vocabulary import lazy_seqio

  add("stdlib_packages", lazy_seqio(stdlib.vocabulary))
  _text("stdlib_packages_text", lazy_seqio(stdlib.vocabulary))


def add(name: str, vocabulary: Any) -> None:
  """Registers the task with a label under another name, for a checkpoint's own vocabulary.

  Args:
    name: what MIXTURE_OR_TASK_NAME will say.
    vocabulary: a SeqIO one, or one of `mtm.data.vocabulary`.
  """
  from mtm.data._tensorflow import seqio
  from mtm.data.sources import _labels

  text = vocabulary.to_seqio() if hasattr(vocabulary, "to_seqio") else vocabulary
  seqio().TaskRegistry.add(
    name,
    source=_source("label"),
    preprocessors=[_labels.numbered(PACKAGES), seqio().preprocessors.tokenize],
    output_features={
      "inputs": seqio().Feature(text, add_eos=False), "label": _labels.feature(PACKAGES),
    },
  )  # fmt: skip


def _text(name: str, vocabulary: Any) -> None:
  from mtm.data._tensorflow import seqio
  from mtm.tasks import _metrics

  feature = seqio().Feature(vocabulary, add_eos=True)
  seqio().TaskRegistry.add(
    name,
    source=_source("targets"),
    preprocessors=[seqio().preprocessors.tokenize, seqio().preprocessors.append_eos],
    output_features={"inputs": feature, "targets": feature},
    metric_fns=[_metrics.sequence_accuracy],
  )


def _source(answer: str) -> Any:
  """A SeqIO source of `inputs`, with the package's name as `answer`."""
  from mtm.data.sources import _records

  def records(split: str) -> Iterator[dict[str, str]]:
    return ({"inputs": text, answer: package} for package, text in pieces(split))

  origin = _records.Origin(
    records, SPLITS, ["inputs", answer], "this Python's standard library", stdlib.version()
  )
  return _records.source(origin, origin.held)


def pieces(split: str) -> Iterator[tuple[str, str]]:
  """Pairs of a package and a piece of its code; no file has pieces in both splits.

  Packages are mixed, so that the first pieces are a fair share of all.
  """
  documents = itertools.chain.from_iterable(map(stdlib.documents, stdlib.SPLITS))
  found = []
  for name, text in documents:
    package = name.split("/")[0]
    if package in PACKAGES and split_of(name) == split:
      found += [(_digest(f"{name}:{n}"), package, piece) for n, piece in enumerate(_cut(text))]
  return ((package, piece) for _, package, piece in sorted(found))


def split_of(name: str) -> str:
  """The split of a file: a fifth of them, by a hash of their names, is held out."""
  return "validation" if _digest(f"packages:{name}")[0] % 5 == 0 else "train"


def _digest(text: str) -> bytes:
  return hashlib.sha256(text.encode()).digest()


def _cut(text: str) -> Iterator[str]:
  """Stretches of whole lines; the rest of a file, which is short, is left out."""
  held = ""
  for line in text.splitlines(keepends=True):
    held += line
    if len(held) >= CHARACTERS:
      yield held
      held = ""
