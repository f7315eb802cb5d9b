"""The bar fits its terminal, tells every number, and turns into sparse lines in a pipe."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from mtm.report import progress
from mtm.report.progress import Progress, Status

_VALUES = {"loss": 2.31, "tokens_per_second": 41_000.0, "mfu": 0.314, "waiting": 0.012}


class _Clock:
  """A monotonic clock that moves when told."""

  def __init__(self) -> None:
    self.now = 1000.0

  def __call__(self) -> float:
    return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
  clock = _Clock()
  monkeypatch.setattr(progress.time, "monotonic", clock)
  return clock


def _pipe() -> Console:
  return Console(file=io.StringIO(), width=80)


def _read(console: Console) -> str:
  assert isinstance(console.file, io.StringIO)
  return console.file.getvalue()


def _drawn(line: progress._Line, width: int) -> str:
  console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
  console.print(line)
  return _read(console)


def test_a_pipe_gets_a_line_every_ten_seconds_and_the_last_step(clock: _Clock) -> None:
  console = _pipe()
  with Progress(100, console=console) as shown:
    for step in range(1, 101):
      clock.now += 0.5
      shown.update(step, _VALUES)
  steps = [line.split()[1] for line in _read(console).splitlines()]
  assert steps == ["1/100", "21/100", "41/100", "61/100", "81/100", "100/100"]


def test_the_last_step_is_not_told_twice(clock: _Clock) -> None:
  console = _pipe()
  with Progress(1, console=console) as shown:
    shown.update(1, _VALUES)
  assert _read(console).count("1/1") == 1


def test_a_run_without_steps_says_nothing() -> None:
  console = _pipe()
  with Progress(100, start=100, console=console):
    pass
  assert _read(console) == ""


def test_a_plain_line_tells_every_number_and_the_time_left(clock: _Clock) -> None:
  console = _pipe()
  with Progress(320, start=300, console=console) as shown:
    clock.now += 30  # compiling
    shown.update(301, _VALUES)
    clock.now += 12
    shown.update(305, _VALUES)  # 3 s a step, 15 steps to go
  assert _read(console).splitlines()[1] == (
    "step 305/320  loss 2.310  41.0k tok/s  MFU 31 %  wait 1.2 %  0:42  0:45 left"
  )


def test_what_is_not_known_shows_as_a_dash() -> None:
  console = _pipe()
  with Progress(10, console=console) as shown:
    shown.update(1, {})
  assert "loss -  - tok/s  MFU -  wait -" in _read(console)


def test_notes_are_printed_literally_and_unbroken() -> None:
  text = "def f(x: list[int]) -> str: return '[bold]:smile:[/]'" + " # long" * 20
  console = _pipe()
  with Progress(10, console=console) as shown:
    shown.note(text)
  assert _read(console) == text + "\n"


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 120, 200])
def test_the_bar_is_one_line_that_fits(clock: _Clock, width: int) -> None:
  line = progress._Line(12_000, 0)
  for step in (8_999, 9_000):
    clock.now += 3000
    line.update(step, _VALUES)
  drawn = _drawn(line, width)
  assert drawn.count("\n") == 1 and len(drawn.rstrip()) <= width
  assert "9000/12000" in drawn and "━" in drawn


def test_eighty_columns_hold_what_a_newcomer_wants_to_see(clock: _Clock) -> None:
  line = progress._Line(2000, 0)
  for step in (999, 1000):
    clock.now += 0.15
    line.update(step, _VALUES)
  drawn = _drawn(line, 80)
  for part in ("1000/2000", "loss 2.310", "41.0k tok/s", "MFU 31 %", "0:00", "2:30 left"):
    assert part in drawn


def test_until_the_first_step_ends_it_says_that_it_compiles() -> None:
  line = progress._Line(2000, 300)
  assert "compiling the first step" in _drawn(line, 80)
  line.update(301, _VALUES)
  assert "compiling" not in _drawn(line, 80)


def test_a_terminal_shows_the_bar_below_the_notes_and_gets_its_cursor_back() -> None:
  console = Console(file=io.StringIO(), width=80, force_terminal=True)
  with Progress(2, console=console) as shown:
    shown.update(1, _VALUES)
    shown.note("a note")
    shown.update(2, _VALUES)
  drawn = _read(console)
  assert drawn.index("a note") < drawn.rindex("2/2")
  assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")  # the cursor is shown again


def test_updates_cost_less_than_a_twentieth_of_a_millisecond() -> None:
  with Progress(10**6, console=_pipe()) as shown:
    began = time.perf_counter()
    for step in range(10_000):
      shown.update(step, _VALUES)
  assert (time.perf_counter() - began) / 10_000 < 5e-5  # about 2 µs on an idle core


@pytest.mark.parametrize(
  ("took", "said"), [(0.2, "Reading ...\n"), (65, "Reading ...\nReading: 1 min 05 s\n")]
)
def test_in_a_pipe_a_preparation_tells_its_time_only_when_long(
  clock: _Clock, took: float, said: str
) -> None:
  console = _pipe()
  with Status("Reading", console):
    clock.now += took
  assert _read(console) == said


def test_a_failed_preparation_does_not_claim_to_have_ended(clock: _Clock) -> None:
  for make in (_pipe, lambda: Console(file=io.StringIO(), force_terminal=True)):
    console = make()
    with pytest.raises(ValueError, match="broken"), Status("Reading", console):
      clock.now += 10
      raise ValueError("broken")
    assert "Reading: " not in _read(console)


def test_a_terminal_is_left_with_one_line_of_the_preparation(clock: _Clock) -> None:
  console = Console(file=io.StringIO(), force_terminal=True, color_system=None)
  with Status("Reading [1/2]", console):
    clock.now += 2
  assert _read(console).endswith("Reading [1/2]: 2.0 s\n")
