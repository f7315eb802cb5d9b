"""The API as OpenAI's own client speaks it, before an engine that says prompts back."""

from __future__ import annotations

import concurrent.futures
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from mtm.serving import http
from mtm.serving.service import Service
from tests.serving import browser
from tests.serving.fakes import Parrot, served, service


@pytest.fixture(scope="module")
def parrot() -> Iterator[tuple[Service, str]]:
  of = service(Parrot(rows=2))
  with served(of) as url:
    yield of, url


@pytest.fixture(scope="module")
def client(parrot: tuple[Service, str]) -> Iterator[openai.OpenAI]:
  with openai.OpenAI(base_url=f"{parrot[1]}/v1", api_key="none", max_retries=0) as client:
    yield client


def until(happens: Callable[[], bool], seconds: float = 10) -> None:
  """Waits until something is so, but not for ever."""
  end = time.monotonic() + seconds
  while not happens():
    assert time.monotonic() < end
    time.sleep(0.005)


def user(text: str) -> list[Any]:
  return [{"role": "user", "content": text}]


def test_models_are_listed(client: openai.OpenAI) -> None:
  (model,) = client.models.list()
  assert model.id == "parrot" and client.models.retrieve("parrot").owned_by == "mtm"
  with pytest.raises(openai.NotFoundError, match="did you mean 'parrot'"):
    client.models.retrieve("parot")


def test_a_completion(client: openai.OpenAI) -> None:
  told = client.completions.create(
    model="parrot", prompt=["ab", "cde"], n=2, max_tokens=50, echo=True, seed=1
  )
  assert [choice.text for choice in told.choices] == ["abab", "ab1ab", "cdecde", "cde1cde"]
  assert [choice.index for choice in told.choices] == [0, 1, 2, 3]
  assert {choice.finish_reason for choice in told.choices} == {"stop"}
  assert told.usage is not None
  assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (5, 12)


def test_a_completion_streams_whole_characters(client: openai.OpenAI) -> None:
  chunks = list(
    client.completions.create(
      model="parrot", prompt="né€", stream=True, stream_options={"include_usage": True}
    )
  )
  assert [chunk.choices[0].text for chunk in chunks[:-1]] == ["n", "é", "€", ""]
  assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None, None, None, "stop"]
  assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 6  # type: ignore[union-attr]


def test_log_probabilities(client: openai.OpenAI) -> None:
  told = client.completions.create(model="parrot", prompt="ab", logprobs=2, max_tokens=2)
  probs = told.choices[0].logprobs
  assert probs is not None and told.choices[0].finish_reason == "length"
  assert (probs.tokens, probs.token_logprobs) == (["a", "b"], [-0.5, -0.5])
  assert probs.top_logprobs == [{"a": -0.5, "A": -2.0}, {"b": -0.5, "A": -2.0}]
  assert probs.text_offset == [0, 1]
  chat = client.chat.completions.create(
    model="parrot", messages=user("x"), logprobs=True, top_logprobs=1, max_tokens=1
  )
  assert chat.choices[0].logprobs is not None
  (first,) = chat.choices[0].logprobs.content or []
  assert (first.token, first.bytes, first.top_logprobs[0].token) == ("U", [85], "U")


def test_a_chat_goes_through_the_turns_and_stops_before_the_next_one(client: openai.OpenAI) -> None:
  talk = [*user("hi"), {"role": "assistant", "content": "ho"}, *user("who")]
  told = client.chat.completions.create(model="parrot", messages=talk)
  # The parrot says all turns back, and the second user's is where the answer must end.
  assert told.choices[0].message.content == "User: hi\nAssistant: ho"
  assert told.choices[0].finish_reason == "stop"
  chunks = list(
    client.chat.completions.create(model="parrot", messages=talk, stop="Ass", stream=True)
  )
  assert chunks[0].choices[0].delta.role == "assistant"
  assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "User: hi\n"
  assert chunks[-1].choices[0].finish_reason == "stop"


def test_many_at_once_get_each_its_own(client: openai.OpenAI) -> None:
  texts = [f"text number {n} " + "x" * n for n in range(6)]

  def ask(text: str) -> str:
    return client.completions.create(model="parrot", prompt=text, max_tokens=60).choices[0].text

  with concurrent.futures.ThreadPoolExecutor(6) as pool:
    assert list(pool.map(ask, texts)) == texts


def test_more_than_may_wait_is_too_many(parrot: tuple[Service, str], client: openai.OpenAI) -> None:
  quick, parrot[0].engine.pause = parrot[0].engine.pause, 0.2  # type: ignore[attr-defined]
  streams = [
    client.completions.create(model="parrot", prompt="x" * 90, max_tokens=90, stream=True)
    for _ in range(6)  # two rows, four wait
  ]
  with pytest.raises(openai.RateLimitError, match="too many requests wait"):
    client.completions.create(model="parrot", prompt="y")
  for stream in streams:
    stream.close()
  # Whoever hangs up gives rows and places back: the parrot would need 270 steps of 0.2 s.
  until(lambda: parrot[0].scheduler.load == (0, 0))
  parrot[0].engine.pause = quick  # type: ignore[attr-defined]
  assert client.completions.create(model="parrot", prompt="y").choices[0].text == "y"


def test_a_client_that_waits_for_the_whole_and_leaves_frees_its_row(
  parrot: tuple[Service, str],
) -> None:
  of, url = parrot
  body = json.dumps({"prompt": "x" * 99, "max_tokens": 100}).encode()
  head = (
    f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(body)}\r\n\r\n"
  )
  slow, of.engine.pause = of.engine.pause, 0.2  # type: ignore[attr-defined]
  with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as raw:
    raw.sendall(head.encode() + body)
    until(lambda: of.scheduler.load == (1, 0))
  until(lambda: of.scheduler.load == (0, 0))  # all of it would take 20 s
  of.engine.pause = slow  # type: ignore[attr-defined]


def post(url: str, data: bytes, kind: str = "application/json") -> tuple[int, Any]:
  request = urllib.request.Request(url, data, {"Content-Type": kind})
  try:
    with urllib.request.urlopen(request) as response:
      return response.status, json.loads(response.read())
  except urllib.error.HTTPError as error:
    return error.code, json.loads(error.read())["error"]["message"]


def test_what_is_wrong_with_a_request_is_told(parrot: tuple[Service, str]) -> None:
  url = f"{parrot[1]}/v1/completions"
  cases: list[tuple[bytes, int, str]] = [
    (b'{"prompt": "x", "model": "gpt-9"}', 404, "'gpt-9' is not served here"),
    (b'{"prompt": "x", "max_tokens": 500}', 400, "more than 200"),
    (b'{"prompt": [5, 259]}', 400, "holds the id 259, and the model knows 0 to 258"),
    (b'{"prompt": "\\ud800"}', 400, "half a character"),
    (b'{"prompt": ["a", "b"], "n": 4}', 400, "8 answers in one request, and 6"),
    (b"{", 400, "the body is not JSON"),
    (b"[" * 100000, 400, "the body is not JSON"),
    (b"\xff", 400, "the body is not JSON"),
    (b'"' + b"x" * http.LARGEST_BODY + b'"', 413, "larger than"),
  ]
  for body, status, told in cases:
    found = post(url, body)
    assert found[0] == status and told in found[1], (body[:40], found)
  # A page elsewhere can send text/plain without being asked, and must not reach the model.
  status, told = post(url, b'{"prompt": "x"}', "text/plain")
  assert status == 415 and "must be application/json" in told
  assert post(f"{parrot[1]}/v1/nothing", b"{}")[0] == 404
  assert post(f"{parrot[1]}/health", b"{}")[0] == 405


def test_a_page_that_calls_itself_by_this_address_is_refused(parrot: tuple[Service, str]) -> None:
  request = urllib.request.Request(f"{parrot[1]}/health", headers={"Host": "evil.example:80"})
  with pytest.raises(urllib.error.HTTPError) as error:
    urllib.request.urlopen(request)
  assert error.value.code == 403
  assert "and not by 'evil.example'" in json.loads(error.value.read())["error"]["message"]
  error.value.close()


def test_an_error_of_the_engine_is_a_500_and_ends_a_stream(
  parrot: tuple[Service, str], client: openai.OpenAI
) -> None:
  parrot[0].engine.error = "out of memory"  # type: ignore[attr-defined]
  with pytest.raises(openai.InternalServerError, match="generating failed: RuntimeError: out of"):
    client.completions.create(model="parrot", prompt="x")
  parrot[0].engine.error = "again"  # type: ignore[attr-defined]
  with pytest.raises(openai.APIError, match="RuntimeError: again"):
    list(client.completions.create(model="parrot", prompt="x", stream=True))


def test_health(parrot: tuple[Service, str]) -> None:
  with urllib.request.urlopen(f"{parrot[1]}/health") as response:
    told = json.loads(response.read())
  assert (told["status"], told["slots"], told["max_length"]) == ("ok", 2, 200)


def test_the_page_asks_nobody_else(parrot: tuple[Service, str]) -> None:
  with urllib.request.urlopen(parrot[1]) as response:
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    page = response.read().decode()
  assert not re.findall(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)


@pytest.mark.skipif(browser.FOUND is None, reason="no Chromium on the PATH")
def test_the_page_talks_to_the_model(parrot: tuple[Service, str], tmp_path: Path) -> None:
  with browser.Browser(tmp_path) as page:
    page.call("Page.navigate", url=parrot[1])
    page.until("document.getElementById('name')?.textContent === 'parrot'")
    page.run("document.getElementById('line').focus()")
    page.press("¡Hola!")
    page.until("document.querySelector('.assistant .note')?.textContent")
    assert page.run("document.querySelector('.user .text').textContent") == "¡Hola!"
    answer, note = page.run(
      "['text', 'note'].map(x => document.querySelector(`.assistant .${x}`).textContent)"
    )
    assert answer == "User: ¡Hola!\nAssistant:"
    assert "24 tokens read · 24 written" in note
    # The conversation so far is told with the second message, after the system's.
    page.run("document.getElementById('system').value = 'Be kind.'")
    page.press("Bye")
    page.until("document.querySelectorAll('.assistant .note')[1]?.textContent")
    assert page.run("document.querySelectorAll('.assistant .text')[1].textContent") == "Be kind."
    page.run("document.getElementById('to-complete').click()")
    page.run("document.getElementById('max_tokens').value = 3")
    page.press("abcdef", enter=False)
    page.run("document.getElementById('send').click()")
    page.until("document.querySelector('.assistant .note')?.textContent")
    assert page.run("document.querySelector('.complete .new').textContent") == "abc"
    assert "cut at the most tokens" in page.run("document.querySelector('.note').textContent")
    page.run("document.getElementById('max_tokens').value = 999")
    page.run("document.getElementById('send').click()")
    page.until("document.querySelectorAll('.assistant')[1]?.classList.contains('error')")
    assert "more than 200" in page.run("document.querySelector('.error .text').textContent")
    loud = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    assert not [event for event in page.events if event.get("method") in loud]
    asked = [e["params"]["request"]["url"] for e in page.events
             if e.get("method") == "Network.requestWillBeSent"]  # fmt: skip
    assert all(url.startswith((parrot[1], "data:")) for url in asked) and len(asked) > 4
