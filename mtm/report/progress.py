"""The live bar of a run, and a spinner for what has no steps.

On a terminal both are redrawn in place; in a pipe, a CI log or a notebook they are plain lines.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.status import Status as Spinner
from rich.table import Table
from rich.text import Text

from mtm.report import _words

_REDRAWS = 4.0  # a second; more would take time from the training that it shows
_PLAIN_SECONDS = 10.0  # between two plain lines
_UNKNOWN = "-"


class Progress:
  """Shows the steps of a run.

  ```
  with Progress(total=2000, start=300) as progress:
    progress.update(301, {"loss": 2.31, "tokens_per_second": 41e3, "mfu": 0.31, "waiting": 0.01})
    progress.note("step 301: validation loss 2.45")
  ```
  """

  def __init__(self, total: int, start: int = 0, console: Console | None = None) -> None:
    """Shows nothing yet; entering the context does.

    Args:
      total: steps of the whole run.
      start: steps taken before this process began.
      console: where to; None: standard output.
    """
    self._console = console or Console()
    self._line = _Line(total, start)
    self._live: Live | None = None
    self._said_at = -float("inf")
    self._said_step = start

  def __enter__(self) -> Progress:
    self._line.began = time.monotonic()
    if self._console.is_terminal and not self._console.is_dumb_terminal:
      self._live = Live(self._line, console=self._console, refresh_per_second=_REDRAWS)
      self._live.start(refresh=True)
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    if self._live is not None:
      self._live.stop()
    elif self._said_step != self._line.step:
      self._say()

  def update(self, step: int, values: Mapping[str, float]) -> None:
    """Notes where the run is; cheap enough for every step.

    Args:
      step: steps taken, those before `start` included.
      values: `loss` in nats a token, `tokens_per_second`, and as fractions of one `mfu` and
        `waiting` (the share of time spent waiting for data). What is missing shows as a dash.
    """
    self._line.update(step, values)
    if self._live is None and time.monotonic() - self._said_at >= _PLAIN_SECONDS:
      self._say()

  def note(self, text: str) -> None:
    """Prints lines above the bar, literally: no markup, no wrapping."""
    self._console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

  def _say(self) -> None:
    self._said_at, self._said_step = time.monotonic(), self._line.step
    self.note(self._line.plain())


class _Line:
  """The numbers of the bar, and how they fit a width."""

  def __init__(self, total: int, start: int) -> None:
    self.total = total
    self.step = self._first_step = start
    self.began = self._newest = time.monotonic()
    self._first: float | None = None  # when the first step ended, which compiled
    self._values: Mapping[str, float] = {}

  def update(self, step: int, values: Mapping[str, float]) -> None:
    """See `Progress.update`."""
    self.step, self._values, self._newest = step, dict(values), time.monotonic()
    if self._first is None:
      self._first, self._first_step = self._newest, step

  def plain(self) -> str:
    """One line of text."""
    fields = self._fields()
    if fields["left"].startswith(_UNKNOWN):
      fields.pop("left")
    return "  ".join([f"step {self._steps()}", *fields.values()])

  def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
    fields = self._fields()
    if self._first is None:
      fields = {"compiling": "compiling the first step", "elapsed": fields["elapsed"]}
    head = self._steps()
    for name in ("waiting", "mfu", "elapsed", "tokens_per_second", "left"):
      taken = len(head) + sum(len(field) + 2 for field in fields.values()) + 1
      if options.max_width - taken >= 8:
        break
      fields.pop(name, None)
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(no_wrap=True, style="bold")
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    bar = ProgressBar(total=max(self.total, 1), completed=self.step, pulse=self._first is None)
    row.add_row(head, bar, Text("  ").join(Text(f, _STYLES.get(n, "")) for n, f in fields.items()))
    yield row

  def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
    return Measurement(options.max_width, options.max_width)

  def _steps(self) -> str:
    return f"{self.step}/{self.total}"

  def _fields(self) -> dict[str, str]:
    values = self._values
    loss = f"loss {_words.loss(values['loss'])}" if "loss" in values else f"loss {_UNKNOWN}"
    speed = values.get("tokens_per_second")
    return {
      "loss": loss,
      "tokens_per_second": f"{_UNKNOWN if speed is None else _words.count(speed)} tok/s",
      "mfu": f"MFU {self._share('mfu')}",
      "waiting": f"wait {self._share('waiting')}",
      "elapsed": _words.clock(time.monotonic() - self.began),
      "left": f"{self._left()} left",
    }

  def _share(self, name: str) -> str:
    value = self._values.get(name)
    return _UNKNOWN if value is None else _words.share(value)

  def _left(self) -> str:
    """Time to go at this run's mean pace, pauses included, the first step's compilation not."""
    if self.step >= self.total:
      return _words.clock(0)
    if self._first is None or self.step <= self._first_step:
      return _UNKNOWN
    pace = (self._newest - self._first) / (self.step - self._first_step)
    since = time.monotonic() - self._newest
    return _words.clock(max(pace * (self.total - self.step) - since, 0))


_STYLES = {"loss": "bold cyan", "elapsed": "dim", "waiting": "dim", "compiling": "italic"}


class Status:
  """A spinner for a preparation without steps, which leaves a line saying how long it took.

  ```
  with Status("Building the vocabulary"):
    ...
  ```
  """

  def __init__(self, text: str, console: Console | None = None) -> None:
    """Shows nothing yet; entering the context does.

    Args:
      text: what is going on, without a full stop.
      console: where to; None: standard output.
    """
    self._text = text
    self._console = console or Console()
    self._spinner: Spinner | None = None
    self._began = 0.0

  def __enter__(self) -> Status:
    self._began = time.monotonic()
    if self._console.is_terminal and not self._console.is_dumb_terminal:
      look = "line" if self._console.options.ascii_only else "dots"
      self._spinner = Spinner(Text(f"{self._text} ..."), console=self._console, spinner=look)
      self._spinner.start()
    else:
      self._print(f"{self._text} ...")
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    took = time.monotonic() - self._began
    if self._spinner is not None:
      self._spinner.stop()
    if error is None and (self._spinner is not None or took >= 1):
      self._print(f"{self._text}: {_words.duration(took)}")

  def _print(self, text: str) -> None:
    self._console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
