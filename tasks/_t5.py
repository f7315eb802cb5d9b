"""What T5's tasks share: its vocabulary, and text in, text out from TFDS (1910.10683)."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtm.data._tensorflow import seqio
from mtm.data.lazy_vocabulary import lazy_seqio
from mtm.data.store import cache_directory, write_atomically
from mtm.data.vocabulary import SentencePiece, has_sentinels
from mtm.errors import UserError

VARIABLE = "MTM_T5_VOCABULARY"
URL = "https://storage.googleapis.com/t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"
SENTINELS = 100
SECONDS = 20.0

Steps = Sequence[Callable[..., Any]]


def vocabulary() -> SentencePiece:
  """T5's vocabulary: the file that $MTM_T5_VOCABULARY names, else fetched once and then cached.

  A model without sentinels of its own, such as the `spiece.model` of T5 checkpoints, gets T5's
  hundred.

  Raises:
    UserError: the file is missing or damaged, or cannot be fetched.
  """
  path = os.environ.get(VARIABLE) or _fetched()
  return SentencePiece(path, extra_ids=0 if has_sentinels(path) else SENTINELS)


def add(
  name: str,
  source: Any,
  steps: Steps,
  inputs: bool = True,
  metrics: Sequence[Callable[..., Any]] = (),
  postprocess: Callable[..., Any] | None = None,
) -> None:
  """Registers a task, unless the name is taken: T5's own library may have brought it.

  Args:
    name: T5's name of it.
    source: a SeqIO source.
    steps: SeqIO preprocessors that end with token ids.
    inputs: whether there is a feature `inputs` beside `targets`.
    metrics: SeqIO metric functions.
    postprocess: turns decoded text into what `metrics` compare; see `seqio.Task`.
  """
  if name in seqio().TaskRegistry.names():
    return
  feature = seqio().Feature(lazy_seqio(vocabulary), add_eos=True)
  names = ["inputs", "targets"] if inputs else ["targets"]
  seqio().TaskRegistry.add(
    name,
    source=source,
    preprocessors=list(steps),
    output_features={n: feature for n in names},
    metric_fns=list(metrics),
    postprocess_fn=postprocess,
  )


def text_to_text(
  name: str,
  tfds_name: str,
  write: Callable[[Mapping[str, Any]], dict[str, Any]],
  metrics: Sequence[Callable[..., Any]] = (),
  postprocess: Callable[..., Any] | None = None,
) -> None:
  """Registers a TFDS data set whose examples `write` turns into texts `inputs` and `targets`."""
  steps = [mapped(write), *tokens()]
  source = seqio().TfdsDataSource(tfds_name)
  add(name, source, steps, metrics=metrics, postprocess=postprocess)


def language(name: str, tfds_name: str, field: str = "text") -> None:
  """Registers the texts of a TFDS data set as `targets` for language modelling."""
  steps = [mapped(lambda example: {"targets": example[field]}), *tokens()]
  add(name, seqio().TfdsDataSource(tfds_name), steps, inputs=False)


def mapped(write: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Callable[[Any], Any]:
  """A preprocessor that maps `write` over examples."""

  def preprocess(dataset: Any) -> Any:
    return dataset.map(write, num_parallel_calls=-1)

  return preprocess


def tokens() -> Steps:
  """Text to ids, ended by EOS; a cached copy holds what comes before EOS."""
  return [
    seqio().preprocessors.tokenize,
    seqio().CacheDatasetPlaceholder(),
    seqio().preprocessors.append_eos,
  ]


def _fetched() -> str:
  """The cached copy of T5's model."""
  copy = cache_directory() / "t5" / "cc_all.32000.100extra.model"
  if not copy.exists():
    try:
      with urllib.request.urlopen(URL, timeout=SECONDS) as reply:
        write_atomically(copy, reply.read())
    except (urllib.error.URLError, OSError) as e:
      raise UserError(
        f"T5's vocabulary cannot be fetched from {URL} ({getattr(e, 'reason', e)}): set {VARIABLE} "
        "to a local copy, such as spiece.model of any T5 checkpoint"
      ) from None
  return str(copy)
