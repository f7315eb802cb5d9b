"""A model ready to answer requests: texts in, pieces of text out, whoever speaks with it."""

from __future__ import annotations

import dataclasses
import functools
import queue
import secrets
import time
from collections.abc import Callable, Sequence

from mtm.errors import UserError, nearest
from mtm.serving.asked import Asked, Refused
from mtm.serving.engine import Engine, Prompt
from mtm.serving.scheduler import Job, Piece, Scheduler
from mtm.serving.turns import Message


@dataclasses.dataclass(frozen=True)
class Service:
  """A model that answers.

  Attributes:
    name: what requests call it.
    scheduler: runs jobs.
    encode: a text → ids, as the model was trained to read it.
    encode_turns: a conversation → ids.
    decode: ids → text.
    vocab_size: how many ids there are.
    stops: strings that end an answer in a conversation.
    created: when it began to serve, in seconds since 1970.
  """

  name: str
  scheduler: Scheduler
  encode: Callable[[str], list[int]]
  encode_turns: Callable[[Sequence[Message]], list[int]]
  decode: Callable[[Sequence[int]], str]
  vocab_size: int
  stops: tuple[str, ...] = ()
  created: int = dataclasses.field(default_factory=lambda: int(time.time()))

  @property
  def engine(self) -> Engine:
    """What generates; for its limits alone."""
    return self.scheduler.engine

  def warm(self) -> None:
    """Compiles what the first short request needs. Raises UserError where the model cannot run."""
    told: queue.Queue[Piece] = queue.Queue()
    self.scheduler.submit([Job(Prompt([self.vocab_size - 1], 1), told.put)])
    piece = told.get()
    if piece.finish == "error":
      raise UserError(f"the model cannot generate: {piece.error}")

  def prompts(self, asked: Asked) -> list[list[int]]:
    """The token ids of each prompt.

    Raises:
      Refused: another model is asked for, or an id is none of the model's.
      UserError: the template refuses the conversation.
    """
    if asked.model not in (None, "", self.name):
      raise Refused(
        f"the model {asked.model!r} is not served here{nearest(str(asked.model), [self.name])}",
        "model", "model_not_found", 404,
      )  # fmt: skip
    try:
      if asked.messages:
        return [self.encode_turns(asked.messages)]
      return [
        self.encode(prompt) if isinstance(prompt, str) else self._checked(prompt)
        for prompt in asked.prompts
      ]
    except UnicodeError as error:
      raise Refused(f"half a character is no text: {error}") from None

  def _checked(self, ids: list[int]) -> list[int]:
    wrong = [i for i in ids if not 0 <= i < self.vocab_size]
    if wrong:
      raise Refused(
        f"prompt holds the id {wrong[0]}, and the model knows 0 to {self.vocab_size - 1}", "prompt"
      )
    return ids

  def jobs(
    self, asked: Asked, prompts: Sequence[list[int]], deliver: Callable[[int, Piece], None]
  ) -> list[Job]:
    """The jobs of a request, `n` for each prompt, in order.

    Args:
      asked: the request.
      prompts: its prompts' ids.
      deliver: told a job's number and each of its pieces, by the scheduler's thread.

    Raises:
      Refused: they are more than can ever run and wait together.
    """
    count, most = len(prompts) * asked.n, self.engine.rows + self.scheduler.most_waiting
    if count > most:
      raise Refused(f"{count} answers in one request, and {most} can be had: ask for fewer", "n")
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    stops = (*asked.stop, *(self.stops if asked.messages else ()))
    made: list[Job] = []
    for number, ids in enumerate(prompts):
      limit = max(self.engine.room(ids), 1) if asked.max_tokens is None else asked.max_tokens
      for sample in range(asked.n):
        prompt = Prompt(
          ids, limit, asked.temperature, asked.top_k, asked.top_p, seed, number, sample
        )
        index = len(made)
        made.append(Job(prompt, functools.partial(deliver, index), stops, asked.top or 0))
    return made
