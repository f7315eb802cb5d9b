"""Text to token ids and back, without TensorFlow: what a run saves so that `infer` needs no SeqIO.

Ids follow T5 and SeqIO: 0 pads, 1 ends a sequence, 2 is unknown, and the sentinels are the last
ids, `<extra_id_0>` the very last.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import json
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from mtm.data.store import cache_directory, write_atomically
from mtm.errors import UserError, nearest

SENTINEL = re.compile(r"▁?<extra_id_\d+>")


class Vocabulary(Protocol):
  """What the pipeline, decoding and reports ask of a vocabulary."""

  @property
  def extra_ids(self) -> int:
    """How many of the last ids are sentinels that the model itself does not hold."""

  @property
  def vocab_size(self) -> int:
    """The number of ids, sentinels included."""

  @property
  def pad_id(self) -> int: ...

  @property
  def eos_id(self) -> int | None: ...

  @property
  def bos_id(self) -> int | None: ...

  @property
  def unk_id(self) -> int | None: ...

  def encode(self, text: str) -> list[int]:
    """The ids of `text`, without an end-of-sequence id."""

  def decode(self, ids: Iterable[int]) -> str:
    """The text of `ids` up to the first end-of-sequence id; padding stands for nothing."""

  def token_bytes(self) -> np.ndarray | None:
    """int32 `[vocab_size]`: the UTF-8 bytes an id stands for; None when nobody can know."""

  def save(self, directory: str | os.PathLike[str]) -> None:
    """Writes all that `load(directory)` needs."""

  def to_seqio(self) -> Any:
    """The SeqIO vocabulary with the same ids."""


def terminated(vocabulary: Vocabulary, text: str) -> list[int]:
  """The ids of `text`, then the end-of-sequence id where the vocabulary has one."""
  end = vocabulary.eos_id
  return [*vocabulary.encode(text), *([] if end is None else [end])]


@dataclasses.dataclass(frozen=True)
class SentencePiece:
  """A SentencePiece model (1808.06226), with T5's sentinels put on top of it.

  A model of `mtm.data.sources.stdlib.train_sentencepiece` is lossless, but for "▁" (U+2581, the
  library's mark for a space), which decodes as "▂": `token_bytes()[encode(text)].sum()` is exactly
  the text's UTF-8 bytes, unless it spells a sentinel out. A model that normalises counts the bytes
  of the normalised text.

  Attributes:
    path: the model file.
    extra_ids: sentinels to add above the model's own ids.

  Raises:
    UserError: on first use, when `path` is missing or no SentencePiece model.
  """

  path: str
  extra_ids: int = 0

  @property
  def vocab_size(self) -> int:
    return self._processor.get_piece_size()

  @property
  def pad_id(self) -> int:
    return max(self._processor.pad_id(), 0)

  @property
  def eos_id(self) -> int | None:
    return _present(self._processor.eos_id())

  @property
  def bos_id(self) -> int | None:
    return _present(self._processor.bos_id())

  @property
  def unk_id(self) -> int | None:
    return _present(self._processor.unk_id())

  def encode(self, text: str) -> list[int]:
    """See `Vocabulary.encode`."""
    return self._processor.encode(text)

  def decode(self, ids: Iterable[int]) -> str:
    """See `Vocabulary.decode`; an id beyond the vocabulary decodes as unknown."""
    size, unknown = self.vocab_size, self._processor.unk_id()
    kept = [i if i < size else unknown for i in _until_eos(ids, self.eos_id)]
    return self._processor.decode(kept)

  def token_bytes(self) -> np.ndarray:
    """See `Vocabulary.token_bytes`; 0 for padding, end, unknown and sentinels."""
    return _piece_bytes(self.path, self.extra_ids).copy()

  def pieces(self) -> list[str]:
    """The piece that each id stands for, with "▁" for a space; sentinels included."""
    return [self._processor.id_to_piece(i) for i in range(self.vocab_size)]

  def save(self, directory: str | os.PathLike[str]) -> None:
    """See `Vocabulary.save`."""
    folder = pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / "sentencepiece.model"
    if not (copy.exists() and copy.samefile(self.path)):
      write_atomically(copy, pathlib.Path(self.path).read_bytes())
    _save_fields(folder, self, {"extra_ids": self.extra_ids})

  @classmethod
  def load(cls, directory: str | os.PathLike[str]) -> SentencePiece:
    """What `save` wrote."""
    path = pathlib.Path(directory) / "sentencepiece.model"
    return cls(str(path), **_load_fields(pathlib.Path(directory)))

  def to_seqio(self) -> Any:
    """See `Vocabulary.to_seqio`."""
    from mtm.data._tensorflow import seqio

    _processor(self.path, 0)  # tells plainly what is wrong with the file
    return seqio().SentencePieceVocabulary(self.path, self.extra_ids)

  @property
  def _processor(self) -> Any:
    return _processor(self.path, self.extra_ids)


@dataclasses.dataclass(frozen=True)
class Bytes:
  """ByT5's vocabulary (2105.13626): 0 pads, 1 ends, 2 is unknown, byte b is b + 3.

  Attributes:
    extra_ids: sentinels above the 259 ids; ByT5 has 125.
  """

  extra_ids: int = 125
  pad_id = 0
  eos_id = 1
  bos_id = None
  unk_id = 2

  @property
  def vocab_size(self) -> int:
    return 259 + self.extra_ids

  def encode(self, text: str) -> list[int]:
    """See `Vocabulary.encode`."""
    return [byte + 3 for byte in text.encode()]

  def decode(self, ids: Iterable[int]) -> str:
    """See `Vocabulary.decode`; broken UTF-8, special ids and sentinels are left out."""
    kept = [i - 3 for i in _until_eos(ids, self.eos_id) if 3 <= i < 259]
    return bytes(kept).decode(errors="ignore")

  def token_bytes(self) -> np.ndarray:
    """See `Vocabulary.token_bytes`."""
    counts = np.zeros(self.vocab_size, np.int32)
    counts[3:259] = 1
    return counts

  def save(self, directory: str | os.PathLike[str]) -> None:
    """See `Vocabulary.save`."""
    _save_fields(pathlib.Path(directory), self, dataclasses.asdict(self))

  @classmethod
  def load(cls, directory: str | os.PathLike[str]) -> Bytes:
    """What `save` wrote."""
    return cls(**_load_fields(pathlib.Path(directory)))

  def to_seqio(self) -> Any:
    """See `Vocabulary.to_seqio`."""
    from mtm.data._tensorflow import seqio

    return seqio().ByteVocabulary(self.extra_ids)


@dataclasses.dataclass(frozen=True)
class Numbers:
  """Ids that stand for themselves, written in decimal: SeqIO's PassThroughVocabulary.

  Attributes:
    vocab_size: the number of ids.
    eos_id: the id that ends a sequence, if any.
  """

  vocab_size: int
  eos_id: int | None = None
  extra_ids = 0
  pad_id = 0
  bos_id = None
  unk_id = None

  def encode(self, text: str) -> list[int]:
    """See `Vocabulary.encode`. Raises UserError for what is no id."""
    try:
      ids = [int(word) for word in text.split()]
    except ValueError:
      raise UserError(f"{text!r}: this vocabulary reads ids written in decimal") from None
    for i in ids:
      if not 0 <= i < self.vocab_size:
        raise UserError(f"id {i} is outside the vocabulary: 0 to {self.vocab_size - 1} exist")
    return ids

  def decode(self, ids: Iterable[int]) -> str:
    """See `Vocabulary.decode`."""
    return " ".join(str(i) for i in _until_eos(ids, self.eos_id))

  def token_bytes(self) -> None:
    """None: a number says nothing about the text it came from."""

  def save(self, directory: str | os.PathLike[str]) -> None:
    """See `Vocabulary.save`."""
    _save_fields(pathlib.Path(directory), self, dataclasses.asdict(self))

  @classmethod
  def load(cls, directory: str | os.PathLike[str]) -> Numbers:
    """What `save` wrote."""
    return cls(**_load_fields(pathlib.Path(directory)))

  def to_seqio(self) -> Any:
    """See `Vocabulary.to_seqio`."""
    from mtm.data._tensorflow import seqio

    return seqio().PassThroughVocabulary(self.vocab_size, self.eos_id)


def load(directory: str | os.PathLike[str]) -> Vocabulary:
  """The vocabulary that some `save(directory)` wrote, whatever its class.

  Raises:
    UserError: there is none, or its description is damaged.
  """
  told = _description(pathlib.Path(directory))
  try:
    module, _, name = told["class"].partition(":")
    cls = getattr(importlib.import_module(module), name)
  except (AttributeError, ImportError, KeyError, TypeError, ValueError):
    raise UserError(
      f"{directory}: its vocabulary.json names no class that is installed here; "
      "save the vocabulary again"
    ) from None
  return cls.load(directory)


def from_seqio(vocabulary: Any) -> Vocabulary:
  """The TensorFlow-free twin, same ids, of a SeqIO vocabulary.

  Raises:
    UserError: nobody has written a twin for its class.
  """
  from mtm.data._tensorflow import seqio

  if hasattr(vocabulary, "twin"):  # made by a vocabulary of ours
    return vocabulary.twin
  if isinstance(vocabulary, seqio().SentencePieceVocabulary):
    return _from_sentencepiece(vocabulary)
  if isinstance(vocabulary, seqio().ByteVocabulary):
    return Bytes(vocabulary.extra_ids)
  if isinstance(vocabulary, seqio().PassThroughVocabulary):
    return Numbers(vocabulary.vocab_size, vocabulary.eos_id)
  raise UserError(
    f"{type(vocabulary).__name__} has no TensorFlow-free twin; use one of SentencePieceVocabulary, "
    "ByteVocabulary, PassThroughVocabulary"
  )


def has_sentinels(path: str) -> bool:
  """Whether the SentencePiece model at `path` holds pieces such as `<extra_id_0>` itself."""
  processor = _processor(path, 0)
  return any(SENTINEL.fullmatch(processor.id_to_piece(i)) for i in range(len(processor)))


def _from_sentencepiece(vocabulary: Any) -> SentencePiece:
  """Points at the model's file where it is local and unchanged, else at a copy in the cache."""
  path = vocabulary.sentencepiece_model_file
  plain = vocabulary._reverse_extra_ids and not vocabulary._normalizer_spec_overrides
  if plain and os.path.exists(path):
    return SentencePiece(path, vocabulary.extra_ids)
  model = vocabulary.sp_model  # sentinels included
  copy = cache_directory() / "vocabularies" / f"{hashlib.sha256(model).hexdigest()[:16]}.model"
  if not copy.exists():
    write_atomically(copy, model)
  return SentencePiece(str(copy))


@functools.lru_cache(maxsize=16)
def _processor(path: str, extra_ids: int) -> Any:
  """The loaded model, sentinels added as SeqIO adds them: the last id is `<extra_id_0>`."""
  import sentencepiece
  from sentencepiece import sentencepiece_model_pb2

  pb: Any = sentencepiece_model_pb2
  file = pathlib.Path(path)
  if not file.is_file():
    siblings = [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []
    raise UserError(f"vocabulary {path}: no such file{nearest(file.name, siblings)}")
  try:
    model = pb.ModelProto.FromString(file.read_bytes())
    for i in reversed(range(extra_ids)):
      model.pieces.add(
        piece=f"▁<extra_id_{i}>", score=0.0, type=pb.ModelProto.SentencePiece.USER_DEFINED
      )
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
  except Exception as e:  # the library and protobuf raise many kinds for a damaged file
    raise UserError(f"vocabulary {path}: not a SentencePiece model ({e})") from e


@functools.lru_cache(maxsize=16)
def _piece_bytes(path: str, extra_ids: int) -> np.ndarray:
  """See `SentencePiece.token_bytes`."""
  processor = _processor(path, extra_ids)

  def count(i: int) -> int:
    if processor.is_byte(i):
      return 1
    piece = processor.id_to_piece(i)
    silent = processor.is_control(i) or processor.is_unknown(i) or processor.is_unused(i)
    return 0 if silent or SENTINEL.fullmatch(piece) else len(piece.replace("▁", " ").encode())

  return np.array([count(i) for i in range(len(processor))], np.int32)


def _present(i: int) -> int | None:
  """SentencePiece says -1 where an id is absent."""
  return None if i < 0 else i


def _until_eos(ids: Iterable[int], eos: int | None) -> list[int]:
  """`ids` as Python ints, up to but without the first `eos`."""
  kept = [int(i) for i in ids]
  return kept[: kept.index(eos)] if eos is not None and eos in kept else kept


def _save_fields(folder: pathlib.Path, vocabulary: Any, fields: dict[str, Any]) -> None:
  cls = type(vocabulary)
  told = {"class": f"{cls.__module__}:{cls.__qualname__}", "fields": fields}
  write_atomically(folder / "vocabulary.json", (json.dumps(told, indent=2) + "\n").encode())


def _load_fields(folder: pathlib.Path) -> dict[str, Any]:
  return dict(_description(folder).get("fields", {}))


def _description(folder: pathlib.Path) -> dict[str, Any]:
  """The contents of vocabulary.json."""
  file = folder / "vocabulary.json"
  try:
    told = json.loads(file.read_text())
  except FileNotFoundError:
    raise UserError(f"{folder}: no vocabulary is saved here (vocabulary.json is missing)") from None
  except ValueError as e:
    raise UserError(f"{file}: damaged ({e}); save the vocabulary again") from None
  if not isinstance(told, dict):
    raise UserError(f"{file}: damaged (not an object); save the vocabulary again")
  return told
