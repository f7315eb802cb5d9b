"""What a data set was found to be, remembered, so that a later start need not load SeqIO.

Loading TensorFlow and SeqIO and looking a task up takes several times as long as all else that a
run does before it goes on. What comes of it lies in `<cache>/datasets/<task>-<split>-<digest>/`:
`record.json` has each split's rate, features and token cache, and `vocabularies/` their
vocabularies. It holds for this mtm, this Python, the packages that are installed, and the files
that the tasks' fingerprints looked into, all as they were.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mtm
from mtm.data import cached, vocabulary
from mtm.data._fingerprint import Seen, stamp
from mtm.data.split import Feature, Split
from mtm.data.store import cache_directory
from mtm.data.streams import Example

FORMAT = 1
VARIABLES = ("MTM_", "TFDS_")  # names of environment variables that decide what tasks read


@dataclasses.dataclass(frozen=True)
class Remembered(Split):
  """A split as its record tells it.

  Attributes:
    tokens_of: its token cache.
    described: see `Split.features`.
  """

  name: str
  split: str
  rate: float
  tokens_of: cached.TokenCache
  described: Mapping[str, Feature]

  @property
  def features(self) -> Mapping[str, Feature]:
    """See `Split.features`."""
    return self.described

  @property
  def cacheable(self) -> bool:
    """See `Split.cacheable`."""
    return True

  def cache(self) -> cached.TokenCache:
    """See `Split.cache`."""
    return self.tokens_of

  def examples(self, features: tuple[str, ...]) -> Iterator[Example]:
    """See `Split.examples`."""
    for number in range(len(self.tokens_of)):
      example = self.tokens_of.example(number)
      yield {name: example[name] for name in features}


def folder_of(name: str, split: str, lengths: Mapping[str, int] | None) -> pathlib.Path:
  """Where the record of a task's or mixture's split lies."""
  decides = [FORMAT, name, split, None if lengths is None else sorted(lengths.items()), _here()]
  digest = hashlib.blake2b(json.dumps(decides).encode(), digest_size=16).hexdigest()
  plain = re.sub(r"[^\w.=-]+", "_", f"{name}-{split}")
  return cache_directory() / "datasets" / f"{plain}-{digest}"


def read(folder: pathlib.Path) -> list[Split] | None:
  """The splits that a record tells of; None where there is none, or it does not hold any more."""
  try:
    told = json.loads((folder / "record.json").read_text())
    if not Seen(told["files"], told["patterns"]).unchanged() or _stamps(folder) != told["own"]:
      return None
    return [_split(one, folder) for one in told["splits"]]
  except (OSError, ValueError, LookupError, TypeError):
    return None


def write(folder: pathlib.Path, splits: Sequence[Any]) -> None:
  """Remembers `splits`, of type `provider.TaskSplit`, whose tokens are cached. Where the disk does
  not take it nothing is remembered: the caches themselves told the user of a full one."""
  if read(folder) is not None:  # written by an earlier evaluation of this run, or by another run
    return
  seen, kinds = Seen(), _Kinds()
  told = [
    {
      "name": split.name,
      "split": split.split,
      "rate": split.rate,
      "fingerprint": split.fingerprint(seen),
      "features": {
        name: {
          "rank": feature.rank,
          "add_eos": feature.add_eos,
          "is_tokens": feature.is_tokens,
          "vocabulary": kinds.number(feature),
        }
        for name, feature in split.features.items()
      },
    }
    for split in splits
  ]
  record = {"splits": told, "files": seen.files, "patterns": seen.patterns}
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder.parent) as scratch:
      made = pathlib.Path(scratch) / "record"
      for number, feature in enumerate(kinds.first):
        feature.find().save(_vocabulary(made, number))
      (made / "record.json").write_text(json.dumps({**record, "own": _stamps(made)}))
      if read(folder) is None:  # else another process was as quick, with the same
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
  except OSError:
    return


class _Kinds:
  """Numbers vocabularies, equal ones alike."""

  def __init__(self) -> None:
    self.first: list[Feature] = []

  def number(self, feature: Feature) -> int:
    """That of a feature's vocabulary."""
    for number, other in enumerate(self.first):
      if other.kind == feature.kind:
        return number
    self.first.append(feature)
    return len(self.first) - 1


def _split(told: Mapping[str, Any], folder: pathlib.Path) -> Split:
  """Raises LookupError where its tokens are gone."""
  place = cached.folder_of(told["name"], told["split"], told["fingerprint"])
  tokens = cached.TokenCache.open(place)
  if tokens is None:
    raise LookupError(f"no tokens in {place}")
  features = {
    name: Feature(
      one["rank"],
      one["add_eos"],
      one["is_tokens"],
      one["vocabulary"],
      functools.cache(functools.partial(vocabulary.load, _vocabulary(folder, one["vocabulary"]))),
    )
    for name, one in told["features"].items()
  }
  return Remembered(told["name"], told["split"], told["rate"], tokens, features)


def _stamps(folder: pathlib.Path) -> dict[str, Any]:
  """Of the files of a record's vocabularies."""
  files = sorted((folder / "vocabularies").rglob("*"))
  return {file.relative_to(folder).as_posix(): stamp(str(file)) for file in files}


def _vocabulary(folder: pathlib.Path, number: int) -> pathlib.Path:
  return folder / "vocabularies" / str(number)


def _here() -> list[Any]:
  """This mtm, by its files' sizes and times; this Python; what is installed, by the times of the
  folders; and the environment's word on where data lie."""
  home = pathlib.Path(mtm.__file__).parent
  files = []
  for place, below, names in os.walk(home, followlinks=True):
    below[:] = sorted(name for name in below if name != "__pycache__")
    files += [(name, stamp(os.path.join(place, name))) for name in sorted(names)]
  installed = [
    (path, os.stat(path).st_mtime_ns)
    for path in sys.path
    if path.endswith(("site-packages", "dist-packages")) and os.path.isdir(path)
  ]
  variables = sorted((k, v) for k, v in os.environ.items() if k.startswith(VARIABLES))
  python = [sys.version, sysconfig.get_path("stdlib")]
  return [str(home), files, installed, variables, python]
