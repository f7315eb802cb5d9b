"""What SeqIO knows of a task: its rate in a mixture, its examples, its vocabulary."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mtm.data._fingerprint import fingerprint
from mtm.data._tensorflow import seqio
from mtm.data.preprocessors._base import Tokens
from mtm.data.vocabulary import Vocabulary, from_seqio
from mtm.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class TaskSplit:
  """One split of one task.

  Attributes:
    task: the `seqio.Task`.
    split: for example "train".
    rate: of the mixture, not normalised; 1 for a task alone.
    lengths: feature → tokens, for tasks whose own preprocessors divide examples by them, as T5's
      span corruption does; other tasks give examples as they are.
  """

  task: Any
  split: str
  rate: float = 1.0
  lengths: Mapping[str, int] | None = None

  @property
  def name(self) -> str:
    return self.task.name

  @property
  def own_lengths(self) -> Mapping[str, int] | None:
    """`lengths` where a preprocessor of the task cannot do without, else None."""
    for step in self.task.preprocessors:
      asked = inspect.signature(step).parameters.get("sequence_length")
      if asked is not None and asked.default is asked.empty:
        return self.lengths
    return None

  @property
  def text(self) -> str:
    """The feature whose vocabulary is the model's: the targets, or where a label is predicted the
    inputs."""
    return "targets" if "targets" in self.task.output_features else "inputs"

  def vocabulary(self, feature: str = "targets") -> Vocabulary:
    """The TensorFlow-free twin of a feature's vocabulary.

    Raises:
      UserError: the task lacks the feature, or the vocabulary has no twin.
    """
    found = self.task.output_features
    if feature not in found:
      raise UserError(f"task {self.name!r} has no feature {feature!r}{nearest(feature, found)}")
    return from_seqio(found[feature].vocabulary)

  def tokens(self, features: tuple[str, ...]) -> Tokens:
    """Facts of the vocabulary that these features share; one of rank 0 is a number and has none.

    Raises:
      UserError: they do not share one.
    """
    found = self.task.output_features
    texts = [name for name in features if found[name].rank]
    shared = self.vocabulary(self.text)
    for name in texts:
      if found[name].vocabulary != found[self.text].vocabulary:
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
      functools.cache(functools.partial(word_starts, found[self.text].vocabulary)),
      shared.bos_id,
      shared.eos_id,
      None if label is None or label.rank else label.vocabulary.vocab_size,
    )

  def fingerprint(self) -> str:
    """Changes with anything that decides the tokens; see `_fingerprint`."""
    features = {
      name: (self.vocabulary(name), feature.add_eos)
      for name, feature in self.task.output_features.items()
    }
    steps = (self.task.preprocessors, self.own_lengths)
    made = (self.task.source, steps, features, self.task.cache_dir)
    return fingerprint(self.name, self.split, *made)

  def examples(self, features: tuple[str, ...]) -> Iterator[dict[str, np.ndarray]]:
    """Feature → int32 `[length]`, untrimmed, in the order of the source; a number is `[1]`.

    Raises:
      UserError: the source cannot be read, or a feature is no list of ids.
    """
    for example in self.raw(self.own_lengths):
      found = {name: np.asarray(example[name]) for name in features}
      for name, value in found.items():
        if value.ndim > 1 or value.dtype.kind not in "iu":
          raise UserError(
            f"task {self.name!r}: {name!r} is {value.dtype} {list(value.shape)} and must be a list "
            "of token ids; does a preprocessor tokenise it?"
          )
      yield {
        name: np.atleast_1d(value).astype(np.int32, copy=False) for name, value in found.items()
      }

  def raw(self, lengths: Mapping[str, int] | None) -> Iterator[dict[str, Any]]:
    """All that the task's preprocessors give, as NumPy values.

    Args:
      lengths: what features are trimmed to; None: not at all.

    Raises:
      UserError: the source cannot be read.
    """
    cached = bool(self.task.supports_caching and self.task.cache_dir)
    if self.task.requires_caching and not cached:
      raise UserError(
        f"task {self.name!r} must be cached by seqio_cache_tasks first; then name its folder with "
        "seqio.add_global_cache_dirs"
      )
    count = 0
    found = self.task.output_features
    lists = lengths and {k: n for k, n in lengths.items() if k not in found or found[k].rank}
    try:
      data = self.task.get_dataset(
        sequence_length=lists,
        split=self.split,
        use_cached=cached,
        shuffle=False,
        try_in_mem_cache=False,
      )
      for example in data.as_numpy_iterator():
        yield example
        count += 1
    except UserError:
      raise
    except Exception as e:  # TensorFlow, TFDS and a user's preprocessor raise whatever they like
      told = re.search(r"UserError: (.*)", str(e))  # ours, raised beneath TensorFlow
      if told:
        raise UserError(told.group(1)) from e
      reason = f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
      raise UserError(
        f"task {self.name!r}, split {self.split!r}: example {count} cannot be read ({reason})"
      ) from e


def splits_of(provider: Any, split: str) -> list[TaskSplit]:
  """The tasks of a task or mixture that take part, by name, with their rates.

  As in SeqIO, a mixture leaves out tasks without this split, and a rate may be a function of the
  task, such as `seqio.mixing_rate_num_examples` with temperature and maximum.

  Raises:
    UserError: no task has the split, or a rate is no number above 0.
  """
  tasks = provider.tasks if isinstance(provider, seqio().Mixture) else [provider]
  base = split.split("[")[0]  # TFDS: "train[:10%]"
  having = [task for task in tasks if base in task.splits]
  if not having:
    known = [s for task in tasks for s in task.splits]
    raise UserError(f"{provider.name!r} has no split {split!r}{nearest(base, known)}")
  if len(tasks) == 1 and tasks[0] is provider:
    return [TaskSplit(provider, split)]
  rated = [TaskSplit(task, split, _rate(provider, task)) for task in having]
  left_out = [task.name for task in tasks if task not in having]
  if left_out:
    logging.getLogger(__name__).warning("%s: no split %r, left out", ", ".join(left_out), split)
  kept = [task for task in rated if task.rate > 0]
  if not kept:
    raise UserError(f"mixture {provider.name!r}: every rate is 0; give one task a rate above 0")
  return kept


def _rate(mixture: Any, task: Any) -> float:
  try:
    rate = float(mixture.get_rate(task))
  except TypeError as e:
    raise UserError(
      f"mixture {mixture.name!r}: the rate of task {task.name!r} cannot be computed ({e}); "
      "does its source tell num_input_examples?"
    ) from e
  if not 0 <= rate < float("inf"):
    raise UserError(f"mixture {mixture.name!r}: the rate of task {task.name!r} is {rate}")
  return rate


def word_starts(vocabulary: Any) -> np.ndarray:
  """bool `[vocab_size]`: whether the piece begins a word, which SentencePiece marks by "▁".

  Raises:
    UserError: the vocabulary is not SentencePiece's.
  """
  if not isinstance(vocabulary, seqio().SentencePieceVocabulary):
    raise UserError(
      f"whole-word masks need to know where words begin, and {type(vocabulary).__name__} does not "
      "tell; use a SentencePieceVocabulary or whole_word=False"
    )
  pieces = vocabulary.tokenizer
  return np.array([pieces.id_to_piece(i).startswith("▁") for i in range(vocabulary.vocab_size)])
