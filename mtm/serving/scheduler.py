"""Who gets which row of the engine, and when: one thread that owns it, fed from any other."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mtm.serving.choose import Told
from mtm.serving.engine import Engine, Prompt
from mtm.serving.text import Stream


class Busy(Exception):
  """More requests wait than may."""


class Piece(NamedTuple):
  """What a job is told of one token, or of its end.

  Attributes:
    text: what it adds to the text that surely stays.
    token: its id; None where this tells the end alone.
    log_prob: in nats, under the model itself.
    top: the likeliest ids and their log-probabilities.
    finish: `stop`, `length` or `error` in the last piece, else None.
    error: what went wrong.
  """

  text: str = ""
  token: int | None = None
  log_prob: float = 0.0
  top: tuple[tuple[int, float], ...] = ()
  finish: str | None = None
  error: str = ""


@dataclasses.dataclass(eq=False)
class Job:
  """One text to be generated.

  Attributes:
    prompt: what for, and how.
    deliver: called with each `Piece`, by the scheduler's thread: it must return at once.
    stops: strings that end the text.
    top: how many alternatives are told of each token.
    cancelled: set it to give the row back; nothing is delivered any more.
  """

  prompt: Prompt
  deliver: Callable[[Piece], None]
  stops: Sequence[str] = ()
  top: int = 0
  cancelled: bool = False
  asked: int = 0  # steps begun
  said: int = 0  # tokens read
  stream: Stream | None = None


class Scheduler:
  """Runs jobs, first come, first served; those that don't find a free row wait.

  Attributes:
    engine: what runs them; nobody else may touch it.
    most_waiting: how many jobs may wait.
  """

  def __init__(
    self,
    engine: Engine,
    decode: Callable[[list[int]], str],
    ends: Collection[int],
    most_waiting: int = 64,
  ) -> None:
    """Starts the thread.

    Args:
      engine: see above.
      decode: ids → text.
      ends: ids that end a text.
      most_waiting: see above.
    """
    self.engine, self.most_waiting = engine, most_waiting
    self._decode, self._ends = decode, frozenset(ends)
    self._waiting: collections.deque[Job] = collections.deque()
    self._running: dict[int, Job] = {}
    self._changed = threading.Condition()
    self._closed = False
    self._thread = threading.Thread(target=self._run, name="mtm-scheduler", daemon=True)
    self._thread.start()

  @property
  def load(self) -> tuple[int, int]:
    """How many jobs run, and how many wait."""
    return len(self._running), len(self._waiting)

  @property
  def alive(self) -> bool:
    """Whether jobs are still run."""
    return self._thread.is_alive() and not self._closed

  def submit(self, jobs: Sequence[Job]) -> None:
    """Takes jobs, all or none.

    Raises:
      Busy: too many wait already, or the scheduler is closed.
      UserError: a prompt and its answer are too long.
    """
    for job in jobs:
      self.engine.check(job.prompt.ids, job.prompt.limit)
    with self._changed:
      most = self.engine.rows + self.most_waiting
      if self._closed or len(self._running) + len(self._waiting) + len(jobs) > most:
        raise Busy
      for job in jobs:
        job.stream = Stream(self._decode, job.stops)
        self._waiting.append(job)
      self._changed.notify()

  def cancel(self, jobs: Sequence[Job]) -> None:
    """Ends jobs that nobody waits for any more; others get their rows with the next step."""
    with self._changed:
      for job in jobs:
        job.cancelled = True
      self._changed.notify()

  def close(self) -> None:
    """Ends all jobs with an error, and the thread."""
    with self._changed:
      self._closed = True
      self._changed.notify()
    self._thread.join()

  def _run(self) -> None:
    pending: tuple[Told, dict[int, Job]] | None = None
    while True:
      with self._changed:
        while not (self._closed or self._waiting or self._running):
          self._changed.wait()
        if self._closed:
          break
        self._forget_cancelled()
      try:
        self._admit()
        # The next step is begun before the last one is read: the device never waits for us.
        begun = self._begin()
        if pending is not None:
          self._read(*pending)
        pending = begun
      except (
        Exception
      ) as error:  # whatever it is, the others must be told, and the next ones served
        self._fail(f"{type(error).__name__}: {error}".splitlines()[0])
        pending = None
        self._recover()
    self._fail("the server is closing")

  def _recover(self) -> None:
    """Begins anew after an error, which may have taken the arrays along."""
    try:
      self.engine.reset()
    except Exception:  # the device is gone: nothing more can be served
      self._closed = True

  def _forget_cancelled(self) -> None:
    for job in [job for job in self._waiting if job.cancelled]:
      self._waiting.remove(job)
    for row in [row for row, job in self._running.items() if job.cancelled]:
      del self._running[row]

  def _admit(self) -> None:
    """Gives free rows to jobs, as many as go through the model in one call: those that run already
    wait for no more than that."""
    free = [row for row in range(self.engine.rows) if row not in self._running]
    with self._changed:
      count = min(len(free), len(self._waiting), self.engine.together)
      new = {row: self._waiting.popleft() for row in free[:count]}
      before = [*self._running]
      self._running |= new
    if new:
      self.engine.admit({row: job.prompt for row, job in new.items()}, before)

  def _begin(self) -> tuple[Told, dict[int, Job]] | None:
    """Begins a step of the rows that want one; what it says is not read yet."""
    rows = {row: job for row, job in self._running.items() if job.asked < job.prompt.limit}
    if not rows:
      return None
    for job in rows.values():
      job.asked += 1
    return self.engine.step([*rows], any(job.top for job in rows.values())), rows

  def _read(self, told: Told, rows: dict[int, Job]) -> None:
    """Delivers what a step said; a row may have another job since, or none."""
    values = jax.device_get(told)
    for row, job in rows.items():
      if self._running.get(row) is job and not job.cancelled:
        piece = self._piece(job, row, values)
        if piece.finish is not None:
          with self._changed:
            del self._running[row]
        job.deliver(piece)

  def _piece(self, job: Job, row: int, told: Any) -> Piece:
    """What a job is told of its next token; the last one ends it."""
    assert job.stream is not None
    token = int(told.token[row])
    if token in self._ends:
      return Piece(job.stream.end(), finish="stop")
    job.said += 1
    text, finish = job.stream.add(token), None
    if job.stream.stopped:
      finish = "stop"
    elif job.said == job.prompt.limit:
      text += job.stream.end()
      finish = "stop" if job.stream.stopped else "length"
    ids, values = told.top[row, : job.top], told.top_log_probs[row, : job.top]
    top = tuple(zip(np.asarray(ids).tolist(), np.asarray(values).tolist(), strict=True))
    return Piece(text, token, float(told.log_prob[row]), top, finish)

  def _fail(self, why: str) -> None:
    with self._changed:
      jobs = [*self._running.values(), *self._waiting]
      self._running.clear()
      self._waiting.clear()
    for job in jobs:
      if not job.cancelled:
        job.deliver(Piece(finish="error", error=why))
