"""The end of a run in one screen: how good, how long, where, and what to try next."""

from __future__ import annotations

import dataclasses
import gzip
import lzma
import os
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from mtm.report import _words

_NOTE = (
  "the compressors start from nothing on the held-out files; the model has read the training files,"
  " and its own size is not counted"
)


@dataclasses.dataclass(frozen=True)
class Summary:
  """What the end of a run tells.

  Attributes:
    step, total: steps taken and asked for.
    tokens: target tokens trained on.
    parameters: how many numbers the model holds.
    losses: held-out split → loss in nats a token.
    bits_per_byte: held-out split → contender → bits a byte of its text; the model comes first, then
      perhaps what `compressed_bits_per_byte` found on the same bytes. A split whose bytes cannot be
      counted is left out.
    ledger: what took time → seconds, over all runs of this directory.
    waiting: the share of training time spent waiting for data, a fraction of one.
    paths: what → where it lies.
    commands: what it does → a command to try.
    stopped: why the run ended early, or None.
  """

  step: int
  total: int
  tokens: float
  parameters: int
  losses: Mapping[str, float]
  bits_per_byte: Mapping[str, Mapping[str, float]]
  ledger: Mapping[str, float]
  waiting: float
  paths: Mapping[str, str | os.PathLike[str]]
  commands: Mapping[str, str]
  stopped: str | None = None

  def show(self, console: Console | None = None) -> None:
    """Prints it. Paths and commands are never broken, so that they can be copied."""
    console = console or Console()
    width = min(console.width, 100)
    ascii_only = console.options.ascii_only
    for line in self.lines(width, "=" if ascii_only else "━"):
      console.print(line, highlight=False, soft_wrap=True)

  def lines(self, width: int = 80, ink: str = "━") -> Iterator[Text]:
    """Its lines.

    Args:
      width: for the bars and prose; paths and commands may be longer.
      ink: the character that bars are made of.
    """
    yield Text()
    yield self._headline(width, ink)
    for head, body in (
      ("Held-out loss", self._losses()),
      ("Held-out bits per byte (less is better)", self._contest(width, ink)),
      ("Where the time went", self._time(width, ink)),
      ("Where things lie", _pairs(self.paths)),
      ("What to try next", self._commands()),
    ):
      rows = list(body)
      if rows:
        yield Text()
        yield Text(head, "bold")
        yield from rows
    yield Text()

  def _headline(self, width: int, ink: str) -> Text:
    done = f"{self.step:,} of {self.total:,} steps" if self.stopped else f"{self.step:,} steps"
    facts = (
      f"{done}, {_words.count(self.tokens)} tokens, {_words.count(self.parameters)} parameters"
    )
    head = f"Stopped by {self.stopped} after {facts}" if self.stopped else f"Trained {facts}"
    line = Text(f"{ink * 2} {head} ", "bold yellow" if self.stopped else "bold green")
    return line.append(ink * max(0, width - len(line.plain)))

  def _losses(self) -> Iterator[Text]:
    yield from _pairs({split: f"{_words.loss(x)} nats/token" for split, x in self.losses.items()})

  def _contest(self, width: int, ink: str) -> Iterator[Text]:
    several = len(self.bits_per_byte) > 1
    for split, contenders in self.bits_per_byte.items():
      if several:
        yield Text(f"  {split}")
      values = {name: f"{value:.3f}" for name, value in contenders.items()}
      yield from _bars(contenders, values, width, ink, bold_first=True)
    if any(len(contenders) > 1 for contenders in self.bits_per_byte.values()):
      yield from _wrapped(_NOTE, width)

  def _time(self, width: int, ink: str) -> Iterator[Text]:
    values = {name: _words.duration(seconds) for name, seconds in self.ledger.items()}
    yield from _bars(self.ledger, values, width, ink)
    yield from _wrapped(f"training waited for data {_words.share(self.waiting)} of its time", width)

  def _commands(self) -> Iterator[Text]:
    for what, command in self.commands.items():
      yield Text(f"  # {what}", "dim")
      yield Text(f"  {command}", "cyan")


def compressed_bits_per_byte(data: bytes) -> dict[str, float]:
  """How many bits a byte `gzip -9` and `xz -9` need for `data`; empty for no data.

  The size of a whole file, headers included. xz is liblzma here as there, so its size is the
  command's; the command gzip has a deflate of its own, which differs from zlib's by about 0.01 %.
  """
  if not data:
    return {}
  sizes = {
    "gzip -9": len(gzip.compress(data, compresslevel=9, mtime=0)),
    "xz -9": len(lzma.compress(data, preset=9)),
  }
  return {name: 8 * compressed / len(data) for name, compressed in sizes.items()}


def _pairs(values: Mapping[str, object]) -> Iterator[Text]:
  column = max(map(len, values), default=0)
  for name, value in values.items():
    yield Text(f"  {name:<{column}}  {value}")


def _bars(
  lengths: Mapping[str, float],
  values: Mapping[str, str],
  width: int,
  ink: str,
  bold_first: bool = False,
) -> Iterator[Text]:
  """One line a name: its value, and a bar as long as `lengths` says."""
  names, numbers = max(map(len, lengths), default=0), max(map(len, values.values()), default=0)
  room = max(width - names - numbers - 8, 8)
  longest = max((x for x in lengths.values() if x < float("inf")), default=0)
  for name, length in lengths.items():
    share = length / longest if 0 <= length <= longest and longest > 0 else 0
    line = Text(f"  {name:<{names}}  {values[name]:>{numbers}}", "bold" if bold_first else "")
    if bar := ink * round(share * room):
      line.append(f"  {bar}", "cyan" if bold_first else "dim")
    yield line
    bold_first = False


def _wrapped(text: str, width: int) -> Iterator[Text]:
  line: Sequence[str] = []
  for word in f"({text})".split():
    if line and len(" ".join([*line, word])) > width - 2:
      yield Text(f"  {' '.join(line)}", "dim")
      line = []
    line = [*line, word]
  yield Text(f"  {' '.join(line)}", "dim")
