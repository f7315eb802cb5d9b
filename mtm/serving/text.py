"""Text that grows by tokens: only what surely stays is given out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

BROKEN = "\ufffd"  # what decoders write for a character that is not whole yet


class Stream:
  """The text of a row, token by token, up to the first of some stop strings.

  A character is given out once it is whole, and what may begin a stop string once it is known not
  to be one.

  Attributes:
    stopped: whether a stop string came; it and what follows are left out.
  """

  def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = ()) -> None:
    """`decode` turns ids into text; `stops` end the text."""
    self._decode, self._stops = decode, [stop for stop in stops if stop]
    self._ids: list[int] = []
    self._since = self._read = 0  # ids before `_since` are done; those before `_read` are given
    self._held = ""
    self.stopped = False

  def add(self, token: int) -> str:
    """The text that the next token makes certain."""
    self._ids.append(token)
    return self._give(self._fresh(whole=True))

  def end(self) -> str:
    """What was held back and is text after all, once no token follows."""
    if self.stopped:
      return ""
    text = self._give(self._fresh(whole=False))
    held, self._held = self._held, ""
    return text + ("" if self.stopped else held)

  def _fresh(self, whole: bool) -> str:
    """The text of tokens not read yet; nothing while `whole` is asked for and it is not.

    Tokens are decoded behind those that were read last: a tokenizer may drop the space before the
    first of a text.
    """
    before = self._decode(self._ids[self._since : self._read])
    after = self._decode(self._ids[self._since :])
    if len(after) <= len(before) or (whole and after.endswith(BROKEN)):
      return ""
    self._since, self._read = self._read, len(self._ids)
    return after[len(before) :]

  def _give(self, fresh: str) -> str:
    if self.stopped:
      return ""
    text = self._held + fresh
    found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
    if found:
      self.stopped, self._held = True, ""
      return text[: min(found)]
    keep = max((_overlap(text, stop) for stop in self._stops), default=0)
    self._held = text[len(text) - keep :]
    return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
  """How many of the last characters of `text` may begin `stop`."""
  most = min(len(text), len(stop) - 1)
  return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)
