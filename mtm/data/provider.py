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

from mtm.data import cached
from mtm.data._fingerprint import Seen, fingerprint
from mtm.data._tensorflow import seqio
from mtm.data.split import Feature, Split
from mtm.data.vocabulary import from_seqio
from mtm.errors import UserError, nearest

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TaskSplit(Split):
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
  def name(self) -> str:  # type: ignore[override]
    """Of the task."""
    return self.task.name

  @property
  def own_lengths(self) -> Mapping[str, int] | None:
    """`lengths` where a preprocessor of the task cannot do without, else None."""
    for step in self.task.preprocessors:
      asked = inspect.signature(step).parameters.get("sequence_length")
      if asked is not None and asked.default is asked.empty:
        return self.lengths
    return None

  @functools.cached_property
  def features(self) -> Mapping[str, Feature]:
    """See `Split.features`."""
    return {name: _feature(feature) for name, feature in self.task.output_features.items()}

  @property
  def cacheable(self) -> bool:
    """See `Split.cacheable`."""
    return bool(self.task.source.caching_permitted)

  def cache(self) -> cached.TokenCache:
    """See `Split.cache`: made now if there is none, or a damaged one."""
    folder = cached.folder_of(self.name, self.split, self.fingerprint())
    found = cached.TokenCache.open(folder)
    if found is not None:
      return found
    names = tuple(name for name, feature in self.features.items() if feature.is_tokens)
    log.info("caching the tokens of %s, %s, in %s", self.name, self.split, folder)
    sizes = {name: self.task.output_features[name].vocabulary.vocab_size for name in names}
    return cached.build(folder, self.examples(names), sizes)

  def fingerprint(self, seen: Seen | None = None) -> str:
    """Changes with anything that decides the tokens; see `_fingerprint`."""
    features = {
      name: (self.vocabulary(name), feature.add_eos)
      for name, feature in self.task.output_features.items()
    }
    steps = (self.task.preprocessors, self.own_lengths)
    made = (self.task.source, steps, features, self.task.cache_dir)
    return fingerprint(self.name, self.split, *made, seen=seen)

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
    log.warning("%s: no split %r, left out", ", ".join(left_out), split)
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


def _feature(feature: Any) -> Feature:
  """What SeqIO's says; its vocabulary is looked at when it is asked for."""
  return Feature(
    feature.rank,
    bool(feature.add_eos),
    feature.rank in (0, 1) and feature.dtype.is_integer and feature.required,
    feature.vocabulary,
    functools.cache(functools.partial(from_seqio, feature.vocabulary)),
  )
