"""Rows are given to whoever waits, and taken back from whoever is gone."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from typing import Any

import pytest

from mtm.errors import UserError
from mtm.serving.engine import Prompt
from mtm.serving.scheduler import Busy, Job, Piece, Scheduler
from tests.serving.fakes import BYTES, Parrot


class Asking(Job):
  """A job and what it was told."""

  def __init__(self, text: str, limit: int = 99, **kwargs: Any) -> None:
    self.told: queue.Queue[Piece] = queue.Queue()
    super().__init__(Prompt(BYTES.encode(text), limit), self.told.put, **kwargs)

  def pieces(self) -> list[Piece]:
    found = [self.told.get(timeout=10)]
    while found[-1].finish is None:
      found.append(self.told.get(timeout=10))
    return found

  def text(self) -> str:
    return "".join(piece.text for piece in self.pieces())


@contextlib.contextmanager
def running(engine: Parrot, most_waiting: int = 64) -> Iterator[Scheduler]:
  scheduler = Scheduler(engine, BYTES.decode, [1], most_waiting)  # type: ignore[arg-type]
  try:
    yield scheduler
  finally:
    scheduler.close()


def test_more_texts_than_rows_all_get_their_own_answer() -> None:
  engine = Parrot(rows=3)
  texts = ["a", "bcdef" * 5, "", "xyz", "hello", "12345678"]
  with running(engine) as scheduler:
    jobs = [Asking(text) for text in texts]
    scheduler.submit(jobs)
    assert [job.text() for job in jobs] == texts
    assert scheduler.load == (0, 0) and scheduler.alive
  assert engine.together_most == 3 and not scheduler.alive


def test_reasons_to_end() -> None:
  with running(Parrot()) as scheduler:
    end, limit, stop = Asking("abc"), Asking("abc", 2), Asking("abcdef", stops=["de"])
    scheduler.submit([end, limit, stop])
    told = [job.pieces() for job in (end, limit, stop)]
  assert [pieces[-1].finish for pieces in told] == ["stop", "length", "stop"]
  assert ["".join(piece.text for piece in pieces) for pieces in told] == ["abc", "ab", "abc"]
  assert [piece.token for piece in told[0]] == [*BYTES.encode("abc"), None]


def test_alternatives_are_told_to_whoever_asks() -> None:
  with running(Parrot()) as scheduler:
    asks, not_ = Asking("ab", 2, top=2), Asking("cd", 2)
    scheduler.submit([asks, not_])
    first, other = asks.pieces()[0], not_.pieces()[0]
  assert first.top == ((first.token, -0.5), (68, -2.0)) and first.log_prob == -0.5
  assert other.top == ()


def test_whoever_is_gone_gives_the_row_back() -> None:
  with running(Parrot(rows=1), most_waiting=2) as scheduler:
    long, waits, next_ = Asking("x" * 90), Asking("never"), Asking("next")
    scheduler.submit([long, waits])
    long.told.get(timeout=10)
    scheduler.submit([next_])
    scheduler.cancel([long, waits])
    assert next_.text() == "next"
    assert long.told.qsize() < 60 and waits.told.empty()


def test_too_many_are_refused_whole_and_too_long_ones_are_told() -> None:
  with running(Parrot(rows=1), most_waiting=1) as scheduler:
    scheduler.submit([first := Asking("x" * 90)])
    with pytest.raises(Busy):
      scheduler.submit([Asking("a"), Asking("b")])
    scheduler.submit([second := Asking("b")])
    with pytest.raises(Busy):
      scheduler.submit([Asking("c")])
    with pytest.raises(UserError, match="more than 200"):
      scheduler.submit([Asking("c", 200)])
    scheduler.cancel([first])
    assert second.text() == "b"


def test_an_error_ends_those_who_run_and_the_next_are_served() -> None:
  engine = Parrot()
  with running(engine) as scheduler:
    engine.error = "out of memory"
    scheduler.submit([job := Asking("abc")])
    (piece,) = job.pieces()
    assert (piece.finish, piece.error) == ("error", "RuntimeError: out of memory")
    scheduler.submit([later := Asking("abc")])
    assert later.text() == "abc"
  assert engine.resets == 1


def test_closing_tells_everybody() -> None:
  scheduler = Scheduler(Parrot(rows=1), BYTES.decode, [1])  # type: ignore[arg-type]
  jobs = [Asking("x" * 90), Asking("y")]
  scheduler.submit(jobs)
  scheduler.close()
  assert [job.pieces()[-1].error for job in jobs] == ["the server is closing"] * 2
  with pytest.raises(Busy):
    scheduler.submit([Asking("z")])
