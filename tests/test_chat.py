"""A conversation in the terminal, before an engine that says prompts back."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from mtm import chat, cli
from mtm.errors import UserError
from mtm.programs import served
from mtm.serving.asked import Asked
from mtm.serving.service import Service
from tests.serving.fakes import Parrot, service


@pytest.fixture
def parrot() -> Iterator[Service]:
  made = service(Parrot(rows=1, pause=0))
  yield made
  made.scheduler.close()


def talk(of: Service, raw: bool = False, system: str | None = None, out: Any = None) -> chat.Talk:
  return chat.Talk(of, Asked(max_tokens=99), raw, system, out or io.StringIO())


def test_turns_go_on_from_what_was_said(parrot: Service) -> None:
  one = talk(parrot, system="Be kind.")
  assert one.answer("hi") == "Be kind."  # and there the next user would speak
  assert [message["content"] for message in one.messages] == ["Be kind.", "hi", "Be kind."]
  one.reset()
  assert one.messages == [{"role": "system", "content": "Be kind."}]


def test_an_answer_is_written_as_it_comes(parrot: Service) -> None:
  class Out(io.StringIO):
    parts: list[str] = []

    def write(self, text: str) -> int:
      self.parts.append(text)
      return super().write(text)

  out = Out()
  talk(parrot, raw=True, out=out).answer("abc")
  assert out.parts == ["a", "b", "c", "", "\n"] and out.getvalue() == "abc\n"


def test_ctrl_c_ends_an_answer_and_its_row(parrot: Service) -> None:
  class Out(io.StringIO):
    def write(self, text: str) -> int:
      if text == "c":
        raise KeyboardInterrupt
      return super().write(text)

  one = talk(parrot, raw=True, out=Out())
  assert one.answer("abcdef" * 9) == "abc"
  assert one.interrupted and one.out.getvalue() == "ab\n"  # type: ignore[attr-defined]
  assert one.answer("xy") == "xy" and not one.interrupted


def test_lines_of_a_file_are_turns_and_raw_they_are_one_text(parrot: Service) -> None:
  lines = io.StringIO("one\n\ntwo\n")
  one = talk(parrot)
  assert chat.piped(one, lines)
  assert [m["content"] for m in one.messages if m["role"] == "user"] == ["one", "two"]
  raw = talk(parrot, raw=True)
  assert chat.piped(raw, io.StringIO("one\n\ntwo\n"))
  assert raw.out.getvalue() == "one\n\ntwo\n"  # type: ignore[attr-defined]


def test_at_the_prompt(
  parrot: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  lines = iter(["ab", "", "x" * 500, "/reset", "c"])

  def typed(prompt: str) -> str:
    try:
      return next(lines)
    except StopIteration:
      raise EOFError from None

  monkeypatch.setattr("builtins.input", typed)
  one = talk(parrot)
  chat.interact(one)
  assert [message["content"] for message in one.messages] == ["c", "User: c\nAssistant:"]
  told = capsys.readouterr().err
  assert told.startswith("parrot: ") and "error: 557 + 1 tokens are more than 200" in told


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
  made = service(Parrot(rows=1, pause=0))
  monkeypatch.setattr(served, "service", lambda *args: made)
  monkeypatch.setattr("sys.stdin", io.StringIO("abcdef"))
  assert cli.main(["chat", "anywhere", "--raw", "--max_tokens=3"]) == 0
  assert capsys.readouterr().out == "abc\n" and not made.scheduler.alive
  with pytest.raises(UserError, match="mtm chat: --temperature = 9.0 must be from 0 to 2"):
    chat.main(["anywhere", "--temperature=9"])
