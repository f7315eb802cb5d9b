"""An engine without a model, which says each prompt back, and what stands before it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mtm.data.vocabulary import Bytes
from mtm.errors import UserError
from mtm.serving.choose import Told
from mtm.serving.engine import Prompt
from mtm.serving.scheduler import Scheduler
from mtm.serving.service import Service
from mtm.serving.turns import Plain

BYTES = Bytes(0)
COLUMNS, PAUSE = 200, 0.002


class Parrot:
  """Says the bytes of the prompt, then the end; its samples but the first begin with their number.

  Attributes:
    admitted: the prompts, in order.
    together_most: the most rows of a step.
    error: what the next step raises.
  """

  def __init__(self, rows: int = 2, pause: float = PAUSE) -> None:
    self.rows, self.together, self.columns, self.pause = rows, 1, COLUMNS, pause
    self.admitted: list[Prompt] = []
    self.together_most, self.resets, self.error = 0, 0, ""
    self._lines: dict[int, list[int]] = {}

  def check(self, ids: Sequence[int], limit: int) -> None:
    """See `Engine.check`."""
    if len(ids) + limit > self.columns:
      raise UserError(f"{len(ids)} + {limit} tokens are more than {self.columns}: shorten it")

  def room(self, ids: Sequence[int]) -> int:
    """See `Engine.room`."""
    return self.columns - len(ids)

  def reset(self) -> None:
    """See `Engine.reset`."""
    self.resets += 1

  def admit(self, prompts: Mapping[int, Prompt], active: Any = ()) -> None:
    """See `Engine.admit`."""
    for row, prompt in prompts.items():
      self.admitted.append(prompt)
      head = BYTES.encode(str(prompt.sample)) if prompt.sample else []
      self._lines[row] = [*head, *prompt.ids, 1]

  def step(self, active: Sequence[int], telling: bool = False) -> Told:
    """See `Engine.step`."""
    time.sleep(self.pause)
    if self.error:
      why, self.error = self.error, ""
      raise RuntimeError(why)
    self.together_most = max(self.together_most, len(active))
    tokens = np.zeros(self.rows, np.int32)
    for row in active:
      tokens[row] = self._lines[row].pop(0) if self._lines[row] else 1
    top = np.stack([tokens, tokens * 0 + 68], axis=1) if telling else np.zeros((self.rows, 2), int)
    probs = np.tile(np.array([-0.5, -2.0], np.float32), (self.rows, 1))
    return Told(tokens, probs[:, 0], top, probs)


def service(engine: Any, most_waiting: int = 4, name: str = "parrot") -> Service:
  """A service of such an engine; close its scheduler."""
  scheduler = Scheduler(engine, BYTES.decode, [1], most_waiting)
  turns = Plain()
  encode_turns = lambda messages: BYTES.encode(turns.text(messages))  # noqa: E731
  return Service(name, scheduler, BYTES.encode, encode_turns, BYTES.decode, 259, turns.stops)


@contextlib.contextmanager
def served(of: Service) -> Iterator[str]:
  """The URL at which it is served over HTTP."""
  import uvicorn

  from mtm.serve import LOCAL, _listen
  from mtm.serving.http import app

  listening = _listen("127.0.0.1", 0)
  config = uvicorn.Config(app(of, LOCAL), log_level="error", timeout_graceful_shutdown=1)
  server = uvicorn.Server(config)
  thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
  thread.start()
  try:
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
  finally:
    server.should_exit = True
    thread.join()
    of.scheduler.close()
    listening.close()
