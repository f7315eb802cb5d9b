"""One split of one task, as the pipeline sees it: neither TensorFlow nor SeqIO is needed for it."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from mtm.data.cached import TokenCache
from mtm.data.preprocessors._base import Tokens
from mtm.data.streams import Example
from mtm.data.vocabulary import SentencePiece, Vocabulary
from mtm.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Feature:
  """What a task says of a feature.

  Attributes:
    rank: of its values: 1 for a list of ids, 0 for a number.
    add_eos: whether lists end with the end-of-sequence id.
    is_tokens: whether the token cache holds it.
    kind: features whose vocabularies are equal have equal kinds.
    find: gives the vocabulary.
  """

  rank: int
  add_eos: bool
  is_tokens: bool
  kind: Any
  find: Callable[[], Vocabulary]


class Split(abc.ABC):
  """One split of one task.

  Attributes:
    name: of the task.
    split: for example "train".
    rate: of the mixture, not normalised; 1 for a task alone.
  """

  name: str
  split: str
  rate: float

  @property
  @abc.abstractmethod
  def features(self) -> Mapping[str, Feature]:
    """Those that the task makes, by name."""

  @property
  @abc.abstractmethod
  def cacheable(self) -> bool:
    """Whether its tokens may be kept on disk."""

  @abc.abstractmethod
  def cache(self) -> TokenCache:
    """Its tokens, kept on disk.

    Raises:
      UserError: the source cannot be read, or the cache cannot be written.
    """

  @abc.abstractmethod
  def examples(self, features: tuple[str, ...]) -> Iterator[Example]:
    """Feature → int32 `[length]`, untrimmed, in the order of the source; a number is `[1]`.

    Raises:
      UserError: the source cannot be read, or a feature is no list of ids.
    """

  @property
  def text(self) -> str:
    """The feature whose vocabulary is the model's: the targets, or where a label is predicted the
    inputs."""
    return "targets" if "targets" in self.features else "inputs"

  def vocabulary(self, feature: str = "targets") -> Vocabulary:
    """That of a feature.

    Raises:
      UserError: the task lacks the feature, or nothing without TensorFlow does what it does.
    """
    if feature not in self.features:
      raise UserError(
        f"task {self.name!r} has no feature {feature!r}{nearest(feature, self.features)}"
      )
    return self.features[feature].find()

  def tokens(self, names: tuple[str, ...]) -> Tokens:
    """Facts of the vocabulary that these features share; one of rank 0 is a number and has none.

    Raises:
      UserError: they do not share one.
    """
    found = self.features
    texts = [name for name in names if found[name].rank]
    shared = self.vocabulary(self.text)
    for name in texts:
      if found[name].kind != found[self.text].kind:
        raise UserError(
          f"task {self.name!r}: {name!r} and {self.text!r} have different vocabularies, and the "
          "model has one embedding table; give both the same"
        )
    ends = {name: shared.eos_id if found[name].add_eos else None for name in texts}
    special = (shared.pad_id, shared.eos_id, shared.bos_id, shared.unk_id)
    label = found.get("label")
    return Tokens(
      shared.vocab_size,
      shared.extra_ids,
      ends,
      tuple(i for i in special if i is not None),
      functools.cache(functools.partial(word_starts, shared)),
      shared.bos_id,
      shared.eos_id,
      None if label is None or label.rank else label.find().vocab_size,
    )


def word_starts(vocabulary: Vocabulary) -> np.ndarray:
  """bool `[vocab_size]`: whether the piece begins a word, which SentencePiece marks by "▁".

  Raises:
    UserError: the vocabulary is not SentencePiece's.
  """
  if not isinstance(vocabulary, SentencePiece):
    raise UserError(
      f"whole-word masks need to know where words begin, and {type(vocabulary).__name__} does not "
      "tell; use SentencePiece or whole_word=False"
    )
  return np.array([piece.startswith("▁") for piece in vocabulary.pieces()])
