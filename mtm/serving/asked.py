"""What a request of OpenAI's API asks, checked field by field before anything runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtm.errors import nearest
from mtm.serving.choose import TOP
from mtm.serving.turns import ROLES, Message

MOST_CHOICES, MOST_PROMPTS, MOST_STOPS, DEFAULT_TOKENS = 16, 64, 8, 16


class Refused(Exception):
  """A request that is not served, and why.

  Attributes:
    message: one sentence.
    param: the field that is at fault, if any.
    code: OpenAI's short name of the error, if any.
    status: of HTTP.
    kind: OpenAI's `type`.
  """

  def __init__(
    self,
    message: str,
    param: str | None = None,
    code: str | None = None,
    status: int = 400,
    kind: str = "invalid_request_error",
  ) -> None:
    super().__init__(message)
    self.message, self.param, self.code, self.status, self.kind = message, param, code, status, kind

  def json(self) -> dict[str, Any]:
    """The body of OpenAI's error."""
    told = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
    return {"error": told}


@dataclasses.dataclass(frozen=True)
class Asked:
  """A request that is in order.

  Attributes:
    prompts: texts, or token ids, of a completion; empty for a chat.
    messages: of a chat.
    model: the model's name, if told.
    n: answers to each prompt.
    max_tokens: of each answer; None: as many as there is room for.
    temperature, top_p, top_k, seed: how tokens are drawn; a seed of None is drawn too.
    stop: strings that end an answer.
    top: alternatives told of each token; None: no log-probabilities at all.
    stream: whether the answer comes in pieces.
    usage: whether a stream ends with the counts of tokens.
    echo: whether a completion begins with its prompt.
  """

  prompts: Sequence[str | list[int]] = ()
  messages: Sequence[Message] = ()
  model: str | None = None
  n: int = 1
  max_tokens: int | None = None
  temperature: float = 1.0
  top_p: float = 1.0
  top_k: int = 0
  seed: int | None = None
  stop: tuple[str, ...] = ()
  top: int | None = None
  stream: bool = False
  usage: bool = False
  echo: bool = False


Body = Mapping[str, Any]
Reader = Callable[[Body], Any]


def integer(name: str, low: int, high: int, default: int | None = None) -> Reader:
  """Reads a whole number from `low` to `high`."""

  def read(body: Body) -> int | None:
    value = body.get(name)
    if value is None:
      return default
    if isinstance(value, bool) or not isinstance(value, int):
      raise Refused(f"{name} = {value!r} must be a whole number", name)
    if not low <= value <= high:
      raise Refused(f"{name} = {value} must be from {low} to {high}", name)
    return value

  return read


def number(name: str, low: float, high: float, default: float, above: bool = False) -> Reader:
  """Reads a number from `low` (`above`: or rather above it) to `high`."""

  def read(body: Body) -> float:
    value = body.get(name)
    if value is None:
      return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
      raise Refused(f"{name} = {value!r} must be a number", name)
    if not low <= value <= high or (above and value == low):
      raise Refused(
        f"{name} = {value} must be {'above' if above else 'from'} {low} to {high}", name
      )
    return float(value)

  return read


def flag(name: str) -> Reader:
  """Reads true or false; false where it is absent."""

  def read(body: Body) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
      raise Refused(f"{name} = {value!r} must be true or false", name)
    return bool(value)

  return read


def _text(name: str) -> Reader:
  def read(body: Body) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
      raise Refused(f"{name} = {value!r} must be a text", name)
    return value

  return read


def _stop(body: Body) -> tuple[str, ...]:
  value = body.get("stop")
  stops = [] if value is None else [value] if isinstance(value, str) else value
  if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
    raise Refused(f"stop = {value!r} must be a text or a list of texts, none empty", "stop")
  if len(stops) > MOST_STOPS:
    raise Refused(f"stop has {len(stops)} texts, and {MOST_STOPS} may be given", "stop")
  return tuple(stops)


def _usage(body: Body) -> bool:
  options = body.get("stream_options") or {}
  if not isinstance(options, Mapping):
    raise Refused("stream_options must be an object", "stream_options")
  return flag("include_usage")(options)


def _prompts(body: Body) -> list[str | list[int]]:
  """One text, one list of ids, or a list of either."""
  value: Any = body.get("prompt")
  one = not isinstance(value, list) or all(_is_id(item) for item in value)
  prompts: list[Any] = [value] if one else [*value]
  for prompt in prompts:
    if not isinstance(prompt, str) and not (
      isinstance(prompt, list) and prompt and all(_is_id(item) for item in prompt)
    ):
      what = "is missing" if value is None else "must be a text, token ids, or a list of them"
      raise Refused(f"prompt {what}", "prompt")
  if len(prompts) > MOST_PROMPTS:
    raise Refused(f"{len(prompts)} prompts, and {MOST_PROMPTS} may come together", "prompt")
  return prompts


def _is_id(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _messages(body: Body) -> list[Message]:
  """The conversation; contents in parts are joined where all parts are texts."""
  value, found = body.get("messages"), list[Message]()
  if not isinstance(value, list) or not value:
    raise Refused("messages must be a list with at least one message", "messages")
  for index, message in enumerate(value):
    where = f"messages[{index}]"
    if not isinstance(message, Mapping):
      raise Refused(f"{where} must be an object with role and content", where)
    role, content = message.get("role"), message.get("content")
    role = "system" if role == "developer" else role
    if role not in ROLES:
      raise Refused(f"{where}: role = {role!r}{nearest(str(role), ROLES)}", f"{where}.role")
    if isinstance(content, list):
      parts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
      content = None if None in parts else "".join(map(str, parts))
    if not isinstance(content, str):
      raise Refused(f"{where}: content must be a text", f"{where}.content")
    found.append({"role": role, "content": content})
  return found


def _chat_top(body: Body) -> int | None:
  told, top = flag("logprobs")(body), integer("top_logprobs", 0, TOP)(body)
  if top is not None and not told:
    raise Refused("top_logprobs needs logprobs = true", "top_logprobs")
  return (top or 0) if told else None


def _chat_tokens(body: Body) -> int | None:
  read = [integer(name, 1, 2**31 - 1)(body) for name in ("max_completion_tokens", "max_tokens")]
  return read[0] if read[0] is not None else read[1]


COMMON: dict[str, Reader] = {
  "model": _text("model"),
  "n": integer("n", 1, MOST_CHOICES, 1),
  "temperature": number("temperature", 0, 2, 1.0),
  "top_p": number("top_p", 0, 1, 1.0, above=True),
  "top_k": integer("top_k", 0, 2**31 - 1, 0),
  "seed": integer("seed", -(2**63), 2**63 - 1),
  "stop": _stop,
  "stream": flag("stream"),
  "usage": _usage,
}
COMPLETION: dict[str, Reader] = {
  **COMMON,
  "prompts": _prompts,
  "max_tokens": integer("max_tokens", 1, 2**31 - 1, DEFAULT_TOKENS),
  "top": integer("logprobs", 0, TOP),
  "echo": flag("echo"),
}
CHAT: dict[str, Reader] = {
  **COMMON, "messages": _messages, "max_tokens": _chat_tokens, "top": _chat_top,
}  # fmt: skip
# Fields of the API that must say nothing, by what they then are.
NEUTRAL: dict[str, tuple[Any, ...]] = {
  "frequency_penalty": (None, 0), "presence_penalty": (None, 0), "logit_bias": (None, {}),
  "suffix": (None, ""), "best_of": (None, 1), "response_format": (None, {"type": "text"}),
  "tools": (None, []), "tool_choice": (None, "none", "auto"), "functions": (None, []),
}  # fmt: skip
# Those of this module, and those that change no answer.
KNOWN = {
  "model", "n", "temperature", "top_p", "top_k", "seed", "stop", "stream", "stream_options", "user",
  "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key",
}  # fmt: skip
OF_COMPLETION = KNOWN | {"prompt", "max_tokens", "logprobs", "echo"}
OF_CHAT = KNOWN | {
  "messages", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs",
  "parallel_tool_calls",
}  # fmt: skip


def completion(body: Any) -> Asked:
  """What the body of `/v1/completions` asks. Raises Refused."""
  asked = _read(body, COMPLETION, OF_COMPLETION)
  if asked.echo and asked.top is not None:
    raise Refused("echo cannot be joined with logprobs: prompts are not scored here", "echo")
  return asked


def chat(body: Any) -> Asked:
  """What the body of `/v1/chat/completions` asks. Raises Refused."""
  return _read(body, CHAT, OF_CHAT)


def _read(body: Any, readers: Mapping[str, Reader], known: set[str]) -> Asked:
  if not isinstance(body, Mapping):
    raise Refused("the body must be a JSON object")
  for name, value in body.items():
    if name in NEUTRAL:
      if value not in NEUTRAL[name]:
        raise Refused(f"{name} is not supported here: leave it out", name)
    elif name not in known:
      raise Refused(f"there is no field {name!r}{nearest(name, known)}", name)
  asked = Asked(**{name: read(body) for name, read in readers.items()})
  if asked.usage and not asked.stream:
    raise Refused("stream_options needs stream = true", "stream_options")
  return asked
