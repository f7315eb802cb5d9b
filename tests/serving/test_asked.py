"""A request is checked field by field."""

from __future__ import annotations

from typing import Any

import pytest

from mtm.serving.asked import Refused, chat, completion

USER = [{"role": "user", "content": "hi"}]


def test_defaults_are_those_of_the_api() -> None:
  asked = completion({"prompt": "x"})
  assert (asked.prompts, asked.max_tokens, asked.n, asked.temperature) == (["x"], 16, 1, 1.0)
  assert asked.top is None and not asked.stream and asked.seed is None
  talk = chat({"messages": USER, "max_tokens": 3, "max_completion_tokens": 2, "stop": "a"})
  assert (talk.messages, talk.max_tokens, talk.stop) == (USER, 2, ("a",))


def test_prompts_are_texts_or_ids_or_lists_of_them() -> None:
  assert completion({"prompt": [1, 2]}).prompts == [[1, 2]]
  assert completion({"prompt": ["a", [1, 2]]}).prompts == ["a", [1, 2]]


def test_parts_of_text_are_joined_and_developers_are_the_system() -> None:
  parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
  asked = chat({"messages": [{"role": "developer", "content": parts}, *USER]})
  assert asked.messages == [{"role": "system", "content": "ab"}, *USER]


def test_alternatives() -> None:
  assert chat({"messages": USER, "logprobs": True}).top == 0
  assert chat({"messages": USER, "logprobs": True, "top_logprobs": 3}).top == 3
  assert completion({"prompt": "x", "logprobs": 0}).top == 0


BAD: list[tuple[dict[str, Any], str, str | None]] = [
  ({"promt": "x"}, "did you mean 'prompt'", "promt"),
  ({}, "prompt is missing", "prompt"),
  ({"prompt": []}, "prompt must be a text", "prompt"),
  ({"prompt": [1.5]}, "prompt must be a text", "prompt"),
  ({"prompt": ["a"] * 65}, "65 prompts, and 64", "prompt"),
  ({"prompt": "x", "max_tokens": 0}, "max_tokens = 0 must be from 1", "max_tokens"),
  ({"prompt": "x", "max_tokens": "9"}, "max_tokens = '9' must be a whole number", "max_tokens"),
  ({"prompt": "x", "n": True}, "n = True must be a whole number", "n"),
  ({"prompt": "x", "temperature": 3}, "temperature = 3 must be from 0 to 2", "temperature"),
  ({"prompt": "x", "temperature": float("nan")}, "must be a number", "temperature"),
  ({"prompt": "x", "top_p": 0}, "top_p = 0 must be above 0", "top_p"),
  ({"prompt": "x", "stream": 1}, "stream = 1 must be true or false", "stream"),
  ({"prompt": "x", "stop": [""]}, "stop = \\[''\\] must be", "stop"),
  ({"prompt": "x", "stop": ["a"] * 9}, "stop has 9 texts", "stop"),
  ({"prompt": "x", "logit_bias": {"5": 1}}, "logit_bias is not supported", "logit_bias"),
  ({"prompt": "x", "echo": True, "logprobs": 1}, "echo cannot be joined", "echo"),
  ({"prompt": "x", "stream_options": {"include_usage": True}}, "needs stream", "stream_options"),
]


@pytest.mark.parametrize(("body", "told", "param"), BAD)
def test_bad_completions_are_told(body: dict[str, Any], told: str, param: str | None) -> None:
  with pytest.raises(Refused, match=told) as error:
    completion(body)
  assert error.value.status == 400
  assert error.value.json()["error"]["param"] == param


@pytest.mark.parametrize(
  ("body", "told"),
  [
    ([], "body must be a JSON object"),
    ({"messages": []}, "at least one message"),
    ({"messages": ["hi"]}, r"messages\[0\] must be an object"),
    ({"messages": [{"role": "usr", "content": "x"}]}, "did you mean 'user'"),
    ({"messages": [{"role": "user"}]}, "content must be a text"),
    ({"messages": [{"role": "user", "content": [{"image": 1}]}]}, "content must be a text"),
    ({"messages": USER, "top_logprobs": 2}, "top_logprobs needs logprobs"),
    ({"messages": USER, "tools": [{}]}, "tools is not supported"),
    ({"messages": USER, "prompt": "x"}, "no field 'prompt'"),
  ],
)
def test_bad_chats_are_told(body: Any, told: str) -> None:
  with pytest.raises(Refused, match=told):
    chat(body)
