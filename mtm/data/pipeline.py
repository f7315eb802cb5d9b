"""A data set: a SeqIO task or mixture, and how its examples become batches."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mtm.data import registry, remembered
from mtm.data._random import Draws
from mtm.data.batches import Cut, Gather, RowBatches
from mtm.data.mixing import Mixing
from mtm.data.pool import Pool, size_for
from mtm.data.preprocessors._base import Preprocessor
from mtm.data.provider import TaskSplit, splits_of
from mtm.data.rows import Feed, Rows
from mtm.data.shards import Shards
from mtm.data.split import Split
from mtm.data.streams import CachedReader, DirectReader, Reader, Stream
from mtm.data.vocabulary import Vocabulary
from mtm.errors import UserError, nearest
from mtm.types import Objective


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Where batches come from; costs nothing until it is asked for something.

  Attributes:
    mixture_or_task_name: as registered with SeqIO.
    task_feature_lengths: SeqIO feature ("inputs", "targets") → tokens a row. Causal LM, span
      corruption and MLM split longer documents; seq2seq and the inputs of a prefix LM are trimmed.
      None: as long as the split's longest example.
    split: for example "train", or TFDS's "train[:10%]".
    batch_size: rows, of all hosts together.
    pack: whether rows hold several pieces (with segment ids and positions).
    shuffle: whether every epoch has an order of its own: of all examples with the cache, within
      blocks of 1,024 without it; and whether rows are drawn from a pool of about a million tokens,
      so that the pieces of one document do not follow each other.
    seed: of orders, mixture and masks.
    use_cached: whether token ids are kept on disk (in MTM_CACHE, else ~/.cache/mtm): they are made
      once, by reading all of the split. Otherwise the task is read as it goes.
    module: import path of a module that registers tasks; mtm's own are always there.
    num_epochs: of every task; None: endless. A task that ends leaves the others their proportions.
    num_batches: at most so many batches; None: no limit.
    begin_id: what a decoder is fed before the first token of a piece; None: what the checkpoint
      says that training began from, else 0.
    domains: names of tasks: each token of a batch then has the number of its task among them in
      `decoder_domain` (and `encoder_domain`), as models with an expert for each domain read it;
      None: there is no such feature.
    inputs_end: whether `inputs` keep the end-of-sequence id that their task adds; a decoder alone
      is asked without one, so what it is trained on should have none either.
    shards: into how many parts the examples are dealt. Each is mixed, packed and shuffled by itself
      and fills its stretch of every batch's rows, so that a host reads the shards of its own rows
      and no other: many hosts need as many shards. Batches depend on this number, not on that of
      hosts. For endless data.
    remember: whether what the task was found to be is kept with the cached tokens, so that a later
      start reads them without SeqIO, see `remembered`; of mtm's own tasks, in a process in which
      nobody else registers any.
  """

  mixture_or_task_name: str
  task_feature_lengths: Mapping[str, int] | None
  split: str = "train"
  batch_size: int = 128
  pack: bool = True
  shuffle: bool = True
  seed: int = 0
  use_cached: bool = True
  module: str | None = None
  num_epochs: int | None = None
  num_batches: int | None = None
  begin_id: int | None = None
  domains: Sequence[str] | None = None
  inputs_end: bool = True
  shards: int = 1
  remember: bool = False

  def batches(
    self,
    objective: Objective,
    shard: tuple[int, int] = (0, 1),
    prefetch: int = 2,
    gather: Gather = lambda mine: [mine],
  ) -> RowBatches:
    """The stream of batches `[batch_size / hosts, length]`, int32; see `RowBatches`.

    Args:
      objective: names the preprocessor.
      shard: number of this host, and how many there are.
      prefetch: batches that a thread makes ahead; 0: no thread.
      gather: what each host says of its shards, from what this one says; all call it at once.

    Raises:
      UserError: the task, split or a feature is unknown, a length is missing or does not serve,
        the data are empty, a task is none of the domains, hosts or shards do not divide the batch,
        or there are several shards of finite data.
    """
    if self.shards != 1 and self.num_epochs is not None:
      raise UserError(
        f"shards = {self.shards} would not end together: with num_epochs = {self.num_epochs} take 1"
      )
    cut = Cut(self.batch_size, shard, self.num_batches, prefetch, self.shards)
    preprocessor = self._preprocessor(objective)
    splits = self._splits()
    feeds = [self._feed(split, preprocessor) for split in splits]
    self._keep(splits)
    total = sum(feed.rate for feed in feeds)
    rates = {feed.name: feed.rate / total for feed in feeds}
    return RowBatches(
      Shards({number: self._rows(feeds, preprocessor, number) for number in cut.read}),
      dataclasses.replace(
        preprocessor.layout, begin_id=self.begin_id or 0, domains=self._labels(feeds)
      ),
      cut,
      splits[0].vocabulary(splits[0].text).vocab_size,
      self._identity(preprocessor, feeds),
      rates,
      gather,
    )

  def shapes(self, objective: Objective) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Feature → global shape `(batch_size, length)` and dtype; no task is looked up.

    Raises:
      UserError: a length is missing or does not serve.
    """
    layout = self._preprocessor(objective).layout
    labels = None if self.domains is None else ()
    return dataclasses.replace(layout, domains=labels).shapes(self.batch_size)

  def beginning(self, begin_id: int) -> Dataset:
    """This data set, a decoder fed `begin_id` first unless it says what."""
    return self if self.begin_id is not None else dataclasses.replace(self, begin_id=begin_id)

  @functools.cached_property
  def lengths(self) -> Mapping[str, int]:
    """The feature lengths; where none were given, those of the split's longest examples.

    Raises:
      UserError: the task or split is unknown, or cannot be read.
    """
    if self.task_feature_lengths is not None:
      return self.task_feature_lengths
    longest: dict[str, int] = {}
    for split in self._splits():
      for name, ends in split.cache().ends.items():
        size = int(np.diff(ends, prepend=0).max(initial=1))
        longest[name] = max(size, longest.get(name, 1))
    return longest

  def vocabulary(self) -> Vocabulary:
    """That of the targets, or where a label is predicted of the inputs. Raises UserError for an
    unknown task or split."""
    split = self._splits()[0]
    return split.vocabulary(split.text)

  def token_bytes(self) -> np.ndarray | None:
    """int32 `[vocab]`: UTF-8 bytes that each target id stands for; None when unknowable, or where a
    label is predicted."""
    split = self._splits()[0]
    return split.vocabulary("targets").token_bytes() if split.text == "targets" else None

  def examples(self, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Tokenised examples, one by one, in the order of the source, trimmed to the feature lengths.

    Args:
      limit: at most so many.

    Returns:
      an iterator of feature → int32 `[length]`, and what else the task leaves in its examples, such
      as `inputs_pretokenized`; bytes as text.

    Raises:
      UserError: the task or split is unknown, or the source cannot be read.
    """
    splits = self._looked_up()
    read = (split.raw(dict(self.lengths)) for split in splits)
    for example in itertools.islice(itertools.chain.from_iterable(read), limit):
      found = {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        for name, value in example.items()
      }
      if "inputs" in found and not self.inputs_end:
        found["inputs"] = self.asked(found["inputs"])
      yield found

  def asked(self, inputs: Any) -> Any:
    """Ids of an example's `inputs`, with their end where `inputs_end` says so."""
    if self.inputs_end or not len(inputs) or inputs[-1] != self._eos_id:
      return inputs
    return inputs[:-1]

  @functools.cached_property
  def _eos_id(self) -> int | None:
    return self.vocabulary().eos_id

  def _preprocessor(self, objective: Objective) -> Preprocessor:
    module, _, function = objective.preprocessor.partition(":")
    build = getattr(importlib.import_module(module), function)
    return build(objective, self.lengths)

  def _splits(self) -> Sequence[Split]:
    return self._known or self._looked_up()

  @functools.cached_property
  def _known(self) -> Sequence[Split] | None:
    """The splits as they are remembered."""
    return remembered.read(self._record) if self._memorable() else None

  def _memorable(self) -> bool:
    plain = self.remember and self.use_cached and self.module is None
    return plain and registry.ours_alone()

  @functools.cached_property
  def _record(self) -> pathlib.Path:
    return remembered.folder_of(self.mixture_or_task_name, self.split, self.task_feature_lengths)

  def _keep(self, splits: Sequence[Split]) -> None:
    """Remembers splits that were looked up, now that their tokens are cached."""
    names = self.mixture_or_task_name, *(split.name for split in splits)
    ours = self._memorable() and all(map(registry.is_ours, names))
    if self._known is None and ours and all(split.cacheable for split in splits):
      remembered.write(self._record, splits)

  def _looked_up(self) -> list[TaskSplit]:
    found = splits_of(registry.find(self.mixture_or_task_name, self.module), self.split)
    splits = [dataclasses.replace(split, lengths=self.task_feature_lengths) for split in found]
    first = splits[0]
    for split in splits[1:]:
      if first.features[first.text].kind != split.features[split.text].kind:
        raise UserError(
          f"mixture {self.mixture_or_task_name!r}: tasks {first.name!r} and {split.name!r} have "
          "different vocabularies; give all tasks of a mixture the same"
        )
    return splits

  def _rows(self, feeds: list[Feed], preprocessor: Preprocessor, number: int) -> Rows:
    """Those of a shard."""
    shard = number, self.shards
    own = [dataclasses.replace(feed, stream=feed.stream.dealt(shard)) for feed in feeds]
    mixing = Mixing([feed.rate for feed in feeds], self.seed, shard)
    size = size_for(tuple(preprocessor.layout.lengths.values())) if self.shuffle else 1
    pool = Pool(max(size // self.shards, 1), self.seed, shard)
    return Rows(own, mixing, preprocessor, self.pack, pool)

  def _feed(self, split: Split, preprocessor: Preprocessor) -> Feed:
    """A task, opened."""
    try:
      features = preprocessor.reads(split.features)
      tokens = split.tokens(features)
      if not self.inputs_end:
        tokens = dataclasses.replace(tokens, endless=("inputs",))
      preprocessor.check(tokens)
    except UserError as e:
      raise UserError(f"task {split.name!r}: {e}") from None
    stream = Stream(split.name, split.split, self._reader(split, features), self.num_epochs)
    return Feed(split.name, split.rate, stream, tokens, Draws(self.seed, f"task/{split.name}"))

  def _labels(self, feeds: list[Feed]) -> tuple[int, ...] | None:
    """The number of each task's domain."""
    if self.domains is None:
      return None
    known = list(self.domains)
    for feed in feeds:
      if feed.name not in known:
        raise UserError(
          f"task {feed.name!r} is none of the domains {known}{nearest(feed.name, known)}: add it to"
          " DOMAINS, in the place of its expert"
        )
    return tuple(known.index(feed.name) for feed in feeds)

  def _reader(self, split: Split, features: tuple[str, ...]) -> Reader:
    seed = self.seed if self.shuffle else None
    if self.use_cached and split.cacheable:
      return CachedReader(split.cache(), split.name, seed)
    return DirectReader(lambda: split.examples(features), split.name, seed)

  def _identity(self, preprocessor: Preprocessor, feeds: list[Feed]) -> dict[str, Any]:
    """What must be the same for a saved state to be of these data."""
    return {
      "mixture_or_task_name": self.mixture_or_task_name,
      "split": self.split,
      "rates": {feed.name: feed.rate for feed in feeds},
      "tokens": {feed.name: feed.stream.reader.digest for feed in feeds},
      "preprocessor": repr(preprocessor),
      "pack": self.pack,
      "shuffle": self.shuffle,
      "seed": self.seed,
      **({} if self.inputs_end else {"inputs_end": False}),
      **({} if self.shards == 1 else {"shards": self.shards}),
    }
