"""A SeqIO vocabulary whose model is found, fetched or trained when it is first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mtm.data._tensorflow import seqio
from mtm.data.vocabulary import SentencePiece


def lazy_seqio(find: Callable[[], SentencePiece]) -> Any:
  """A SeqIO vocabulary that calls `find` when it is first used; until then it costs nothing.

  Two with the same `find` are equal, so their tasks mix.
  """

  base: Any = seqio().SentencePieceVocabulary

  class Lazy(base):
    """Finds its model late."""

    def __init__(self) -> None:
      super().__init__("", 0)
      self._sentencepiece_model_file: str = ""
      self._find = find

    def _model_context(self) -> Any:
      if not self._sentencepiece_model_file:
        found = self._find()
        self._sentencepiece_model_file, self._extra_ids = found.path, found.extra_ids
      return super()._model_context()

    @property
    def sentencepiece_model_file(self) -> str:
      self.load_model()
      return self._sentencepiece_model_file

    @property
    def extra_ids(self) -> int:
      self.load_model()
      return self._extra_ids

    def __eq__(self, other: object) -> bool:
      if getattr(other, "_find", None) is self._find:
        return True
      key = (self.sentencepiece_model_file, self.extra_ids)
      return key == (
        getattr(other, "sentencepiece_model_file", None),
        getattr(other, "extra_ids", None),
      )

  return Lazy()
