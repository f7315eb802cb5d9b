"""A tiny vocabulary that tests of data share; trained once a process, in a fraction of a second."""

from __future__ import annotations

import functools
import inspect
import pathlib
import tempfile
import textwrap

from mtm.data.sources.stdlib import train_sentencepiece
from mtm.data.vocabulary import SentencePiece


@functools.cache
def model() -> bytes:
  """A SentencePiece model of 400 ids, trained on the source of one module."""
  return train_sentencepiece(iter([inspect.getsource(textwrap)] * 2), 400)


@functools.cache
def path() -> str:
  """A file that holds it."""
  file = pathlib.Path(tempfile.mkdtemp()) / "tiny.model"
  file.write_bytes(model())
  return str(file)


def vocabulary(extra_ids: int = 100) -> SentencePiece:
  """It, with sentinels on top."""
  return SentencePiece(path(), extra_ids)
