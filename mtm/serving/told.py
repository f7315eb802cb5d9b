"""Answers in the form of OpenAI's API: whole, and in pieces."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mtm.serving.asked import Asked
from mtm.serving.scheduler import Piece

Decode = Callable[[Sequence[int]], str]
Json = dict[str, Any]


@dataclasses.dataclass
class Answer:
  """One answer as it grows.

  Attributes:
    text: all of it.
    pieces: those that told a token.
    finish: why it ended, or None.
  """

  text: str = ""
  pieces: list[Piece] = dataclasses.field(default_factory=list)
  finish: str | None = None

  def add(self, piece: Piece) -> None:
    """Takes the next piece in."""
    self.text += piece.text
    self.finish = piece.finish
    if piece.token is not None:
      self.pieces.append(piece)


class Form(Protocol):
  """How one endpoint tells its answers."""

  def whole(self, index: int, answer: Answer) -> Json:
    """A choice of an answer that is told at once."""

  def begins(self, index: int) -> Json | None:
    """What a stream tells of a choice first, if anything."""

  def part(self, index: int, piece: Piece, answer: Answer) -> Json:
    """A choice of a stream's chunk: what `piece`, the newest of `answer`, adds."""

  def head(self, chunk: bool) -> Json:
    """What stands before the choices; the same for all chunks."""


@dataclasses.dataclass(frozen=True)
class Completion:
  """`/v1/completions`.

  Attributes:
    asked: the request.
    model: the model's name.
    decode: ids → text.
    echoed: the text of each prompt, where it is to stand before the answers.
    id: of the answer.
    created: seconds since 1970.
  """

  asked: Asked
  model: str
  decode: Decode
  echoed: Sequence[str] = ()
  id: str = dataclasses.field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
  created: int = dataclasses.field(default_factory=lambda: int(time.time()))

  def head(self, chunk: bool) -> Json:
    """See `Form.head`."""
    del chunk
    kind = "text_completion"
    return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

  def whole(self, index: int, answer: Answer) -> Json:
    """See `Form.whole`."""
    text, probs = self._echo(index) + answer.text, self._probs(answer.pieces, 0)
    return {"index": index, "text": text, "logprobs": probs, "finish_reason": answer.finish}

  def begins(self, index: int) -> Json | None:
    """See `Form.begins`."""
    text = self._echo(index)
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": None}
    return choice if text else None

  def part(self, index: int, piece: Piece, answer: Answer) -> Json:
    """See `Form.part`."""
    said = [] if piece.token is None else [piece]
    probs = self._probs(said, len(answer.text) - len(piece.text))
    return {"index": index, "text": piece.text, "logprobs": probs, "finish_reason": piece.finish}

  def _echo(self, index: int) -> str:
    return self.echoed[index // self.asked.n] if self.echoed else ""

  def _probs(self, pieces: Sequence[Piece], offset: int) -> Json | None:
    if self.asked.top is None:
      return None
    texts, offsets = [self.decode([p.token or 0]) for p in pieces], []
    for text in texts:
      offsets.append(offset)
      offset += len(text)
    return {
      "tokens": texts,
      "token_logprobs": [piece.log_prob for piece in pieces],
      "top_logprobs": [{self.decode([i]): x for i, x in piece.top} for piece in pieces],
      "text_offset": offsets,
    }


@dataclasses.dataclass(frozen=True)
class Chat:
  """`/v1/chat/completions`; attributes as in `Completion`."""

  asked: Asked
  model: str
  decode: Decode
  id: str = dataclasses.field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
  created: int = dataclasses.field(default_factory=lambda: int(time.time()))

  def head(self, chunk: bool) -> Json:
    """See `Form.head`."""
    kind = "chat.completion.chunk" if chunk else "chat.completion"
    return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

  def whole(self, index: int, answer: Answer) -> Json:
    """See `Form.whole`."""
    message = {"role": "assistant", "content": answer.text}
    probs = self._probs(answer.pieces)
    return {"index": index, "message": message, "logprobs": probs, "finish_reason": answer.finish}

  def begins(self, index: int) -> Json | None:
    """See `Form.begins`."""
    delta = {"role": "assistant", "content": ""}
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

  def part(self, index: int, piece: Piece, answer: Answer) -> Json:
    """See `Form.part`."""
    delta = {"content": piece.text} if piece.text else {}
    probs = self._probs([] if piece.token is None else [piece])
    return {"index": index, "delta": delta, "logprobs": probs, "finish_reason": piece.finish}

  def _probs(self, pieces: Sequence[Piece]) -> Json | None:
    if self.asked.top is None:
      return None
    content = [
      {
        **self._token(piece.token or 0, piece.log_prob),
        "top_logprobs": [self._token(i, x) for i, x in piece.top],
      }
      for piece in pieces
    ]
    return {"content": content}

  def _token(self, token: int, log_prob: float) -> Json:
    text = self.decode([token])
    return {"token": text, "logprob": log_prob, "bytes": list(text.encode())}


def usage(prompts: Sequence[Sequence[int]], said: int) -> Json:
  """The counts of tokens: of prompts, of answers, of both."""
  read = sum(map(len, prompts))
  return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}
