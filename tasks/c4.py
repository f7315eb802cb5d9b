"""C4, the Colossal Clean Crawled Corpus (1910.10683, §2.2), under T5's names."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np

from mtm.errors import UserError

TFDS_NAME = "c4/en:2.2.0"
NAMES = ("c4_v220", "c4_v220_span_corruption", "c4_v220_prefix_lm")
LICENCES = {name: "ODC-BY 1.0" for name in NAMES}
Halves = list[tuple[np.ndarray, np.ndarray]]  # of inputs and targets, ids `[length]`
Divide = Callable[[np.ndarray, Any, Any, np.random.Generator], Halves]


def register() -> None:
  """Registers `c4_v220` for any objective, and T5's tasks that carry their own.

  `c4_v220_span_corruption` and `c4_v220_prefix_lm` come with inputs and targets, for the objective
  Seq2Seq; they need `task_feature_lengths`, and draw their noise once an epoch.
  """
  from mtm.data._tensorflow import seqio
  from mtm.tasks import _t5

  _t5.language("c4_v220", TFDS_NAME)
  for name, divide in (
    ("c4_v220_span_corruption", span_corruption),
    ("c4_v220_prefix_lm", prefix_lm),
  ):
    steps = [
      _t5.mapped(lambda example: {"targets": example["text"]}),
      seqio().preprocessors.tokenize,
      seqio().CacheDatasetPlaceholder(),
      divided(divide),
    ]
    _t5.add(name, seqio().TfdsDataSource(TFDS_NAME), steps)


def span_corruption(ids: np.ndarray, lengths: Any, tokens: Any, rng: np.random.Generator) -> Halves:
  """T5's objective: 15 % noise in spans of 3 tokens on average, each half ended by EOS."""
  from mtm.data.preprocessors import span_corruption

  numbers = types.SimpleNamespace(noise_density=0.15, mean_span_length=3.0)
  build = span_corruption.build(numbers, lengths)
  build.check(tokens)
  return build.pieces({"targets": ids}, tokens, rng)  # type: ignore[return-value]


def prefix_lm(ids: np.ndarray, lengths: Any, tokens: Any, rng: np.random.Generator) -> Halves:
  """Pieces that fit the shorter feature, each cut in two at a random point, and ended by EOS."""
  from mtm.data.preprocessors._base import split

  found = []
  for piece in split(tokens.body("targets", ids), min(lengths["inputs"], lengths["targets"])):
    if len(piece) > 1:
      cut = int(rng.integers(1, len(piece)))
      found.append((tokens.ended("targets", piece[:cut]), tokens.ended("targets", piece[cut:])))
  return found


def divided(divide: Divide) -> Callable[..., Any]:
  """A SeqIO preprocessor: every document becomes the examples that `divide` makes of its ids."""
  from mtm.data._tensorflow import seqio, tensorflow
  from mtm.data.preprocessors._base import Tokens

  tf = tensorflow()

  def preprocess(dataset: Any, sequence_length: Any, output_features: Any) -> Any:
    if not sequence_length:
      raise UserError(
        "this task divides documents by task_feature_lengths: give them, or take c4_v220 with an "
        "objective of mtm"
      )
    vocabulary = output_features["targets"].vocabulary
    special = (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id)
    tokens = Tokens(
      vocabulary.vocab_size,
      vocabulary.extra_ids,
      {"targets": vocabulary.eos_id},
      special,
      lambda: np.zeros(vocabulary.vocab_size, bool),
    )

    def halves(ids: np.ndarray, seed: np.ndarray) -> list[np.ndarray]:
      made = divide(ids, sequence_length, tokens, np.random.default_rng(seed.view(np.uint32)))
      columns = zip(*made, strict=True) if made else ((), ())
      flat = []
      for column in columns:
        flat.append(np.concatenate([*column, np.zeros(0)]).astype(np.int32))
        flat.append(np.array([len(c) for c in column], np.int64))
      return flat

    @seqio().map_over_dataset(num_seeds=1)
    def to_ragged(example: Any, seed: Any) -> dict[str, Any]:
      kinds = [tf.int32, tf.int64, tf.int32, tf.int64]
      made = tf.numpy_function(halves, [example["targets"], seed], kinds)
      for part in made:
        part.set_shape([None])
      return {
        "inputs": tf.RaggedTensor.from_row_lengths(made[0], made[1]),
        "targets": tf.RaggedTensor.from_row_lengths(made[2], made[3]),
      }

    return to_ragged(dataset).unbatch()

  return preprocess
