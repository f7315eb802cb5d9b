"""`mtm chat`: talk to a model in the terminal; it answers token by token."""

from __future__ import annotations

import argparse
import queue
import sys
from collections.abc import Sequence
from typing import TextIO

from mtm.errors import UserError
from mtm.programs import served, setup
from mtm.serving.asked import Asked
from mtm.serving.scheduler import Piece
from mtm.serving.service import Service
from mtm.serving.turns import Message

HELP = (
  "an empty line is skipped; /reset forgets the conversation, Ctrl-C stops an answer, Ctrl-D ends"
)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    "mtm chat", description=__doc__, epilog=f"In a terminal {HELP}.", allow_abbrev=False
  )
  parser.add_argument("checkpoint", help="whatever mtm.load takes: a MODEL_DIR, a HuggingFace one")
  parser.add_argument("--max_tokens", type=int, default=256, help="the most tokens of an answer")
  parser.add_argument("--temperature", type=float, default=0.8, help="0: the likeliest token")
  parser.add_argument("--top_p", type=float, default=0.95, help="share of probability to draw from")
  parser.add_argument("--top_k", type=int, default=0, help="tokens to draw from; 0: all")
  parser.add_argument("--seed", type=int, help="decides the answers; else they differ every time")
  parser.add_argument("--system", help="what is told before the conversation")
  parser.add_argument("--raw", action="store_true", help="continue each line as it is: no turns")
  parser.add_argument("--max_length", type=int, help="longest conversation, in tokens")
  return parser


class Talk:
  """A conversation.

  Attributes:
    service: who answers.
    like: how; the messages or the prompt are filled in.
    raw: whether lines are continued as they are, each for itself.
    system: what is told first.
    out: where answers go.
    interrupted: whether Ctrl-C ended the last answer.
  """

  def __init__(
    self, service: Service, like: Asked, raw: bool, system: str | None, out: TextIO
  ) -> None:
    self.service, self.like, self.raw, self.out = service, like, raw, out
    self._first: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    self.messages, self.interrupted = [*self._first], False

  def reset(self) -> None:
    """Forgets all but the system message."""
    self.messages = [*self._first]

  def answer(self, line: str) -> str:
    """Prints the answer as it comes, and returns it; Ctrl-C ends it early.

    Raises:
      UserError: the conversation is too long, or generating failed; the line is forgotten.
    """
    turn: list[Message] = [{"role": "user", "content": line}]
    told = {"prompts": [line]} if self.raw else {"messages": [*self.messages, *turn]}
    text = self._print(Asked(**{**vars(self.like), **told}))
    if not self.raw:
      self.messages += [*turn, {"role": "assistant", "content": text}]
    return text

  def _print(self, asked: Asked) -> str:
    pieces: queue.Queue[Piece] = queue.Queue()
    prompts, room = self.service.prompts(asked), self.service.engine.room
    most = asked.max_tokens or 1
    limited = Asked(**{**vars(asked), "max_tokens": max(min(most, room(prompts[0])), 1)})
    jobs = self.service.jobs(limited, prompts, lambda index, piece: pieces.put(piece))
    text, self.interrupted = "", False
    try:
      self.service.scheduler.submit(jobs)
      while True:
        piece = pieces.get()
        if piece.finish == "error":
          raise UserError(f"generating failed: {piece.error}")
        # The space between `Assistant:` and the answer is no part of it.
        fresh = piece.text if text or self.raw else piece.text.lstrip()
        text += fresh
        self.out.write(fresh)
        self.out.flush()
        if piece.finish is not None:
          break
    except KeyboardInterrupt:
      self.interrupted = True
    finally:
      self.service.scheduler.cancel(jobs)
    self.out.write("\n")
    self.out.flush()
    return text


def interact(talk: Talk) -> None:
  """Asks for lines until the end of input."""
  try:
    import readline  # noqa: F401 (arrows and history at the prompt)
  except ImportError:
    pass
  print(f"{talk.service.name}: {HELP}", file=sys.stderr)
  while True:
    try:
      line = input("> ").strip()
    except (EOFError, KeyboardInterrupt):
      print(file=sys.stderr)
      return
    if line == "/reset":
      talk.reset()
    elif line:
      try:
        talk.answer(line)
      except UserError as error:
        print(f"error: {error}", file=sys.stderr)


def piped(talk: Talk, lines: TextIO) -> bool:
  """Answers what comes from a file or another program: a turn a line; `--raw`: all as one text.
  Returns whether nobody interrupted it."""
  texts = [lines.read()] if talk.raw else (line.strip() for line in lines)
  for text in texts:
    if text.strip():
      talk.answer(text.rstrip("\n"))
    if talk.interrupted:
      return False
  return True


def main(argv: Sequence[str] | None = None) -> int:
  """The command line."""
  known = _parser().parse_args(argv)
  from mtm.serving import asked as asking

  told = {n: getattr(known, n) for n in ("max_tokens", "temperature", "top_p", "top_k", "seed")}
  try:
    like = asking.completion({**told, "prompt": "x"})
  except asking.Refused as error:
    raise UserError(f"mtm chat: --{error.message}") from None
  setup.start()
  service = served.service(known.checkpoint, 1, known.max_length)
  talk = Talk(service, like, known.raw, known.system, sys.stdout)
  try:
    if sys.stdin.isatty():
      interact(talk)
    else:
      return 0 if piped(talk, sys.stdin) else 130
  except KeyboardInterrupt:
    return 130
  finally:
    service.scheduler.close()
  return 0


if __name__ == "__main__":
  from mtm import cli

  sys.exit(cli.main(["chat", *sys.argv[1:]]))
