"""Small tasks in memory, and facts of a small vocabulary."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mtm.data import registry
from mtm.data._tensorflow import seqio, tensorflow
from mtm.data.preprocessors._base import Tokens

VOCAB = 300
EXTRA = 40
EOS = 1


def tokens(eos: int | None = EOS, vocab_size: int = VOCAB, extra_ids: int = EXTRA) -> Tokens:
  """A vocabulary in which even ids begin words."""
  ends = {"inputs": eos, "targets": eos}
  return Tokens(vocab_size, extra_ids, ends, (0, 1, 2), lambda: np.arange(vocab_size) % 2 == 0)


def documents(count: int, low: int, high: int, seed: int = 0) -> list[list[int]]:
  """Token ids of `count` documents of `low` to `high` tokens."""
  rng = np.random.default_rng(seed)
  return [
    rng.integers(3, VOCAB - EXTRA, rng.integers(low, high + 1)).tolist() for _ in range(count)
  ]


class Vocabulary:
  """Makes a SeqIO vocabulary; one object for all tasks, so that they mix."""

  made: Any = None

  @classmethod
  def get(cls) -> Any:
    if cls.made is None:
      cls.made = seqio().PassThroughVocabulary(VOCAB, eos_id=EOS)
    return cls.made


def add_task(
  name: str,
  targets: Sequence[Sequence[int]],
  inputs: Sequence[Sequence[int]] | None = None,
  vocabulary: Any = None,
  known: bool = True,
) -> Any:
  """Registers a task of token ids, with splits train and validation, and an end appended."""
  features = {"targets": targets} | ({} if inputs is None else {"inputs": inputs})

  def read(split: str, shuffle_files: bool) -> Any:
    tf = tensorflow()
    data = {k: tf.ragged.constant(v, dtype=tf.int32, ragged_rank=1) for k, v in features.items()}
    flat = tf.data.Dataset.from_tensor_slices(data)
    return flat if split == "train" else flat.take(2)

  def add_eos(data: Any) -> Any:
    tf = tensorflow()
    return data.map(lambda x: {k: tf.concat([v, [EOS]], 0) for k, v in x.items()})

  feature = seqio().Feature(vocabulary or Vocabulary.get())
  return seqio().TaskRegistry.add(
    name,
    source=seqio().FunctionDataSource(
      read,
      splits=["train", "validation"],
      num_input_examples={"train": len(targets), "validation": 2} if known else None,
    ),
    preprocessors=[add_eos],
    output_features={name: feature for name in features},
    metric_fns=[],
  )


@contextlib.contextmanager
def registered() -> Iterator[None]:
  """Forgets, in the end, the tasks and mixtures that were added; mtm's own, which are registered
  once a process, stay."""
  registry.register()
  tasks, mixtures = seqio().TaskRegistry, seqio().MixtureRegistry
  before = set(tasks.names()), set(mixtures.names())
  try:
    yield
  finally:
    for kind, names in zip((tasks, mixtures), before, strict=True):
      for name in set(kind.names()) - names:
        kind.remove(name)
