"""A Hugging Face `tokenizer.json` as a vocabulary, ids as transformers gives them.

The `tokenizers` library runs it, and is imported on first use. `mtm.data.vocabularies` finds the
vocabulary of a checkpoint that has no such file.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import itertools
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from mtm.data.store import write_atomically
from mtm.data.vocabulary import (
  _load_fields,
  _save_fields,
  _until_eos,
)
from mtm.errors import UserError, nearest

GENERAL = {"", "None", "PreTrained", "TokenizersBackend"}  # tokenizer classes that name no kind
# Where checkpoints name their special tokens, by name and by id; the first that tells is believed.
NAMES = ("tokenizer_config.json", "special_tokens_map.json")
IDS = ("generation_config.json", "config.json")
# BERT's kind begins with [CLS] and ends with [SEP], and names neither a beginning nor an end.
ROLES = {"pad_id": ("pad",), "eos_id": ("eos", "sep"), "bos_id": ("bos", "cls"), "unk_id": ("unk",)}


@dataclasses.dataclass(frozen=True, eq=False)
class TokenizerJson:
  """A `tokenizer.json` of Hugging Face's `tokenizers`; equal to one of the same content elsewhere.

  A special token that is spelled out in a text becomes its id, as in transformers. Truncation and
  padding that the file asks for are not done.

  Attributes:
    path: the file.
    pad_id: pads; where the tokenizer has no padding of its own, its end of sequence.
    eos_id: ends a sequence, if any.
    bos_id: begins a sequence, if any; decodes as nothing.
    unk_id: stands for what is unknown, if any.

  Raises:
    UserError: on first use, when `path` is missing or damaged, or `tokenizers` is not installed.
  """

  path: str
  pad_id: int = 0
  eos_id: int | None = None
  bos_id: int | None = None
  unk_id: int | None = None

  @classmethod
  def from_hf(cls, directory: str | os.PathLike[str]) -> TokenizerJson:
    """The `tokenizer.json` of a checkpoint, with the special ids that its other files name.

    Raises:
      UserError: a file is missing or damaged.
    """
    folder = pathlib.Path(directory)
    return with_special_ids(folder / "tokenizer.json", Configs(folder), {})

  @property
  def extra_ids(self) -> int:
    return _facts(self.path).sentinels

  @property
  def vocab_size(self) -> int:
    return _facts(self.path).size

  def token_id(self, token: str) -> int | None:
    """The id of one token as the file spells it, such as `[MASK]`; None when there is none."""
    return _backend(self.path).token_to_id(token)

  def encode(self, text: str) -> list[int]:
    """See `Vocabulary.encode`; no special token is added."""
    return _backend(self.path).encode(text, add_special_tokens=False).ids

  def framed(self, text: str) -> list[int]:
    """The ids of `text` between the special tokens that the file puts around it, if any."""
    return _backend(self.path).encode(text, add_special_tokens=True).ids

  def decode(self, ids: Iterable[int]) -> str:
    """See `Vocabulary.decode`; an id beyond the vocabulary decodes as unknown, or as nothing."""
    size, silent = self.vocab_size, {self.bos_id, None}
    # Where nothing was named as padding, its id may be an ordinary token.
    silent |= {self.pad_id} & _facts(self.path).added
    kept = [i if 0 <= i < size else self.unk_id for i in _until_eos(ids, self.eos_id)]
    wanted = [i for i in kept if i not in silent]
    return _backend(self.path).decode(wanted, skip_special_tokens=False)

  def token_bytes(self) -> np.ndarray | None:
    """See `Vocabulary.token_bytes`: known where every byte has an id; special tokens have 0.

    They add up to the bytes of the text as the file normalises it, and a space that the file puts
    before every text is counted.
    """
    counts = _facts(self.path).bytes
    return None if counts is None else counts.copy()

  def save(self, directory: str | os.PathLike[str]) -> None:
    """See `Vocabulary.save`: `tokenizer.json`, byte for byte, and vocabulary.json."""
    _backend(self.path)  # tells plainly what is wrong with the file
    folder = pathlib.Path(directory)
    copy = folder / "tokenizer.json"
    if not (copy.exists() and copy.samefile(self.path)):
      write_atomically(copy, pathlib.Path(self.path).read_bytes())
    _save_fields(folder, self, self._special)

  @classmethod
  def load(cls, directory: str | os.PathLike[str]) -> TokenizerJson:
    """What `save` wrote."""
    folder = pathlib.Path(directory)
    return cls(str(folder / "tokenizer.json"), **_load_fields(folder))

  def to_seqio(self) -> Any:
    """See `Vocabulary.to_seqio`; its `twin` is this very vocabulary."""
    _facts(self.path)  # tells plainly what is wrong with the file
    return seqio_twin(self)

  @property
  def _special(self) -> dict[str, int | None]:
    return {role: getattr(self, role) for role in ROLES}

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, TokenizerJson):
      return NotImplemented
    same = self.path == other.path or _digest(self.path) == _digest(other.path)
    return same and self._special == other._special

  def __hash__(self) -> int:
    return hash(tuple(self._special.values()))


class Configs:
  """What the small JSON files of a checkpoint say; those that are missing say nothing.

  Args:
    folder: the checkpoint's directory.

  Raises:
    UserError: one of them is damaged.
  """

  def __init__(self, folder: pathlib.Path) -> None:
    self.folder = folder
    self.files = {
      name: json_object(folder / name) if (folder / name).is_file() else {}
      for name in (*NAMES, *IDS, "added_tokens.json")
    }

  def option(self, name: str, default: Any) -> Any:
    """An entry of tokenizer_config.json."""
    return self.files[NAMES[0]].get(name, default)

  @property
  def kind(self) -> str | None:
    """`t5` for a T5Tokenizer; where that class is a general one, the model's type."""
    name = re.sub(r"Tokenizer(Fast)?$", "", str(self.option("tokenizer_class", "")))
    if name in GENERAL:
      name = str(self.files["config.json"].get("model_type", ""))
    return re.sub("[^a-z0-9]", "", name.lower()) or None

  def named(self, role: str) -> Any:
    """The token of a role, a string or an object with its `content`; None when nobody says."""
    told = (self.files[name].get(f"{role}_token") for name in NAMES)
    return next((token for token in told if content(token)), None)

  def numbered(self, role: str) -> Iterator[int]:
    """The ids that are told for a role, the most trustworthy first."""
    for name in IDS:
      told = self.files[name].get(f"{role}_token_id")
      for i in told if isinstance(told, list) else [told]:  # Llama 3 ends in several ways
        if isinstance(i, int):
          yield i

  def more(self) -> list[Any]:
    """Further special tokens, under the names of two generations of transformers."""
    lists = [
      self.files[name].get(f"{word}_special_tokens")
      for name in NAMES
      for word in ("additional", "extra")
    ]
    return [token for told in lists if isinstance(told, list) for token in told if content(token)]

  def added(self) -> dict[int, Any]:
    """Tokens that were put on top of a vocabulary, by their ids."""
    older = {i: token for token, i in self.files["added_tokens.json"].items()}
    newer = self.option("added_tokens_decoder", {})
    return dict(sorted({int(i): t for i, t in (older | newer).items() if content(t)}.items()))


def with_special_ids(
  path: pathlib.Path, configs: Configs, defaults: Mapping[str, str]
) -> TokenizerJson:
  """The tokenizer at `path`; `defaults` are the tokens of roles that `configs` do not name."""
  facts, backend = _facts(str(path)), _backend(str(path))

  def candidates(name: str) -> Iterator[int | None]:
    yield backend.token_to_id(content(configs.named(name)) or defaults.get(name, ""))
    yield from (i for i in configs.numbered(name) if 0 <= i < facts.size)

  found = {
    role: next((i for name in names for i in candidates(name) if i is not None), None)
    for role, names in ROLES.items()
  }
  ids = {**found, "unk_id": facts.unknown if found["unk_id"] is None else found["unk_id"]}
  pad = next((ids[role] for role in ("pad_id", "eos_id") if ids[role] is not None), 0)
  return TokenizerJson(str(path), pad or 0, ids["eos_id"], ids["bos_id"], ids["unk_id"])


@dataclasses.dataclass(frozen=True)
class _Facts:
  """What is read off a `tokenizer.json` once."""

  size: int  # one more than the highest id: some ids may have no token
  added: frozenset[int]
  unknown: int | None
  sentinels: int
  bytes: np.ndarray | None


@functools.lru_cache(maxsize=16)
def _facts(path: str) -> _Facts:
  backend, told = _backend(path), json_object(pathlib.Path(path))
  ids = backend.get_vocab(with_added_tokens=True)
  size = max(ids.values(), default=-1) + 1
  added = backend.get_added_tokens_decoder()
  ends = (ids.get(f"<extra_id_{n}>") == size - 1 - n for n in itertools.count())
  sentinels = sum(1 for _ in itertools.takewhile(bool, ends))
  unknown = told["model"].get("unk_id", ids.get(told["model"].get("unk_token")))
  count = _byte_counter(told, ids)
  counts = None if count is None else np.zeros(size, np.int32)
  for token, i in ids.items():
    if count and counts is not None:
      of = added.get(i)
      counts[i] = count(token) if of is None else 0 if of.special else len(token.encode())
  return _Facts(size, frozenset(added), unknown, sentinels, counts)


def _byte_counter(told: Mapping[str, Any], ids: Mapping[str, int]) -> Callable[[str], int] | None:
  """How many bytes an ordinary token stands for; None where a text may lose some on its way."""
  alphabet = set(tokenizers().pre_tokenizers.ByteLevel.alphabet())
  if {"ByteLevel"} <= _types(told.get("decoder")) and alphabet <= ids.keys():
    return lambda token: len(token) if alphabet.issuperset(token) else len(token.encode())
  bytewise = {f"<0x{byte:02X}>" for byte in range(256)}
  marks = {"Metaspace", "Replace"} & _types(told.get("decoder"))
  if told["model"].get("byte_fallback") and marks and bytewise <= ids.keys():
    return lambda token: 1 if token in bytewise else len(token.replace("▁", " ").encode())
  return None


def _types(step: Any) -> set[str]:
  """The types of a step of a `tokenizer.json` and of the steps inside it."""
  if not isinstance(step, dict):
    return set()
  inner = [s for value in step.values() if isinstance(value, list) for s in value]
  return {str(step.get("type"))}.union(*map(_types, inner))


@functools.lru_cache(maxsize=16)
def _backend(path: str) -> Any:
  """The loaded tokenizer."""
  tk, file = tokenizers(), pathlib.Path(path)
  if not file.is_file():
    siblings = [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []
    raise UserError(f"tokenizer {path}: no such file{nearest(file.name, siblings)}")
  try:
    backend = tk.Tokenizer.from_file(path)
  except Exception as e:  # the library raises bare exceptions
    raise UserError(
      f"tokenizer {path}: damaged, or no tokenizer.json ({one_line(e)}); "
      "copy it again from the checkpoint"
    ) from e
  backend.no_truncation()
  backend.no_padding()
  return backend


@functools.lru_cache(maxsize=16)
def _digest(path: str) -> str:
  _backend(path)  # tells plainly what is wrong with the file
  return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def tokenizers() -> Any:
  """The `tokenizers` library. Raises UserError when it is not installed."""
  try:
    return importlib.import_module("tokenizers")
  except ModuleNotFoundError:
    raise UserError("reading a tokenizer.json needs tokenizers: pip install tokenizers") from None


def json_object(path: pathlib.Path) -> dict[str, Any]:
  """The object in a JSON file. Raises UserError when there is none."""
  try:
    told = json.loads(path.read_text(encoding="utf-8"))
  except ValueError as e:
    raise UserError(f"{path}: damaged ({one_line(e)}); copy it again from the checkpoint") from None
  if not isinstance(told, dict):
    raise UserError(f"{path}: damaged (not an object); copy it again from the checkpoint")
  return told


def content(token: Any) -> str:
  """The string of a token that is told as a string or as an object; empty when it is neither."""
  told = token.get("content") if isinstance(token, dict) else token
  return told if isinstance(told, str) else ""


def one_line(error: Exception) -> str:
  """What an error says, on one line."""
  return " ".join(str(error).split())


def _asked(name: str) -> property:
  return property(lambda self: getattr(self.twin, name))


def seqio_twin(twin: TokenizerJson) -> Any:
  """The SeqIO vocabulary of `twin`; a function of a module, so that pickle finds it."""
  return _seqio_class()(twin)


@functools.cache
def _seqio_class() -> Any:
  from mtm.data._tensorflow import seqio, tensorflow

  tf = tensorflow()
  base: Any = seqio().Vocabulary

  class TokenizerJsonVocabulary(base):
    """Asks its `twin` for everything; TensorFlow calls it back from its graphs."""

    def __init__(self, twin: TokenizerJson) -> None:
      super().__init__(twin.extra_ids)
      self.twin = twin

    def __reduce__(self) -> Any:
      return seqio_twin, (self.twin,)

    pad_id, eos_id, bos_id, unk_id = map(_asked, ROLES)
    # As in SentencePieceVocabulary, so that sentinels decode as themselves.
    vocab_size = _base_vocab_size = _asked("vocab_size")

    def _encode(self, s: str) -> list[int]:
      return self.twin.encode(s)

    def _decode(self, ids: Iterable[int]) -> str:
      return self.twin.decode(ids)

    def _encode_tf(self, s: Any) -> Any:
      def encode(text: Any) -> np.ndarray:  # bytes, or an array when eager and empty
        text = text.item() if isinstance(text, np.ndarray) else text
        return np.array(self.twin.encode(text.decode(errors="replace")), np.int32)

      return tf.ensure_shape(tf.numpy_function(encode, [s], tf.int32), [None])

    def _decode_tf(self, ids: Any) -> Any:
      def decode(batch: np.ndarray) -> np.ndarray:
        rows = batch.reshape(math.prod(batch.shape[:-1]), batch.shape[-1])
        texts = [self.twin.decode(row).encode() for row in rows]
        return np.array(texts, object).reshape(batch.shape[:-1])

      ids = tf.convert_to_tensor(ids)
      return tf.ensure_shape(tf.numpy_function(decode, [ids], tf.string), ids.shape[:-1])

    def __eq__(self, other: object) -> bool:
      return getattr(other, "twin", None) == self.twin

    def __hash__(self) -> int:
      return hash(self.twin)

  return TokenizerJsonVocabulary
