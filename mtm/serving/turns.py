"""A conversation as the text that a model reads: by its own chat template, or in plain turns."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from mtm.errors import UserError

Message = Mapping[str, str]  # `role`: system, user or assistant; `content`: its text
ROLES = ("system", "user", "assistant")
JINJA, CONFIG, SPECIAL = "chat_template.jinja", "tokenizer_config.json", "special_tokens_map.json"


class Turns(Protocol):
  """How a conversation is written down.

  Attributes:
    framed: whether what `text` gives lacks what the model's tokenizer puts around a text.
    stops: strings by which a model goes on to the next turn, which is not its own.
  """

  @property
  def framed(self) -> bool: ...

  @property
  def stops(self) -> tuple[str, ...]: ...

  def text(self, messages: Sequence[Message]) -> str:
    """The conversation so far, up to where the answer begins."""


@dataclasses.dataclass(frozen=True)
class Plain:
  """`User: ...` and `Assistant: ...`, a line each, for a decoder that never saw a template."""

  framed: ClassVar[bool] = True
  stops: ClassVar[tuple[str, ...]] = ("\nUser:",)

  def text(self, messages: Sequence[Message]) -> str:
    """See `Turns.text`; a system message stands first, as it is."""
    lines = [
      ("" if message["role"] == "system" else f"{message['role'].title()}: ") + message["content"]
      for message in messages
    ]
    return "\n".join([*lines, "Assistant:"])


@dataclasses.dataclass(frozen=True)
class Last:
  """The last message alone, for an encoder-decoder, which answers one input at a time."""

  framed: ClassVar[bool] = True
  stops: ClassVar[tuple[str, ...]] = ()

  def text(self, messages: Sequence[Message]) -> str:
    """See `Turns.text`; what a system message says stands before it."""
    told = [message["content"] for message in messages if message["role"] == "system"]
    return "\n".join([*told, messages[-1]["content"]])


@dataclasses.dataclass(frozen=True)
class Template:
  """The template that a published model was trained with, run in Jinja's sandbox.

  Attributes:
    source: the template.
    tokens: what it may name, such as `bos_token`.
    where: its file, for errors.
  """

  source: str
  tokens: Mapping[str, str]
  where: str
  framed: ClassVar[bool] = False  # a template writes the begin itself
  stops: ClassVar[tuple[str, ...]] = ()

  def text(self, messages: Sequence[Message]) -> str:
    """See `Turns.text`.

    Raises:
      UserError: the template is broken, or refuses the conversation; or Jinja is not installed.
    """
    try:
      from jinja2 import TemplateError
      from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ModuleNotFoundError:
      raise UserError(
        f'{self.where} needs Jinja: pip install "mtm[serve]", or leave the template out'
      ) from None
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    env.filters["tojson"] = lambda x, **rules: json.dumps(x, ensure_ascii=False, **rules)
    env.globals["raise_exception"] = _refuse
    env.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    told = [dict(message) for message in messages]
    try:
      template = env.from_string(self.source)
      return template.render(messages=told, add_generation_prompt=True, **self.tokens)
    except (TemplateError, TypeError, ValueError) as error:
      raise UserError(f"{self.where} refuses this conversation: {error}") from error


def _refuse(message: str) -> None:
  raise ValueError(message)


def find(folders: Sequence[Path], paired: bool) -> Turns:
  """The template in the first of these directories that has one; else plain turns.

  Args:
    folders: where a checkpoint keeps its tokenizer's files.
    paired: whether the model is an encoder-decoder.

  Raises:
    UserError: a file is damaged.
  """
  for folder in folders:
    config = _object(folder / CONFIG)
    source, where = config.get("chat_template"), folder / CONFIG
    if (folder / JINJA).is_file():
      source, where = (folder / JINJA).read_text(encoding="utf-8"), folder / JINJA
    if isinstance(source, list):  # several, by name
      named = {one.get("name"): one.get("template") for one in source}
      source = named.get("default")
    if isinstance(source, str):
      told = {**_object(folder / SPECIAL), **config}
      tokens = {n: _token(x) for n, x in told.items() if n.endswith("_token") and _token(x)}
      return Template(source, tokens, str(where))
  return Last() if paired else Plain()


def _object(path: Path) -> dict[str, Any]:
  if not path.is_file():
    return {}
  try:
    told = json.loads(path.read_text(encoding="utf-8"))
  except ValueError as error:
    raise UserError(f"{path} cannot be read ({error}): copy it again") from None
  return told if isinstance(told, dict) else {}


def _token(told: Any) -> str:
  """The string of a token that is told as a string or as an object; empty when it is neither."""
  content = told.get("content") if isinstance(told, dict) else told
  return content if isinstance(content, str) else ""
