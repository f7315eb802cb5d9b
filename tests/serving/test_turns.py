"""Conversations as texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtm.errors import UserError
from mtm.serving.turns import Last, Plain, Template, find

TALK = [
  {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
  {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Who?"},
]  # fmt: skip
CHATML = (
  "{{ bos_token }}{% for m in messages %}\n"
  "<|{{ m.role }}|>{{ m['content'] | trim }}{{ eos_token }}\n"
  "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_plain_turns() -> None:
  wanted = "Be brief.\nUser: Hi\nAssistant: Hello\nUser: Who?\nAssistant:"
  assert Plain().text(TALK) == wanted and Plain().stops == ("\nUser:",)
  assert Last().text(TALK) == "Be brief.\nWho?"


def test_a_template_is_found_and_run_as_transformers_runs_it(tmp_path: Path) -> None:
  config = {"chat_template": CHATML, "bos_token": "<s>", "eos_token": {"content": "</s>"}}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
  found = find([tmp_path / "no", tmp_path], paired=False)
  assert isinstance(found, Template) and not found.framed
  # Of a line that holds a tag alone nothing stays, as with trim_blocks and lstrip_blocks.
  wanted = "<s><|user|>Hi</s>\n<|assistant|>Hello</s>\n<|user|>Who?</s>\n<|assistant|>"
  assert found.text(TALK[1:]) == wanted


def test_the_file_of_its_own_counts_first_and_of_several_the_default(tmp_path: Path) -> None:
  several = [{"name": "tool", "template": "no"}, {"name": "default", "template": "yes"}]
  config = tmp_path / "tokenizer_config.json"
  config.write_text(json.dumps({"chat_template": several}))
  assert find([tmp_path], False).text(TALK) == "yes"
  (tmp_path / "chat_template.jinja").write_text("{{ messages | tojson }}")
  assert json.loads(find([tmp_path], False).text(TALK)) == TALK
  config.write_text("{")
  with pytest.raises(UserError, match="tokenizer_config.json cannot be read"):
    find([tmp_path], False)


def test_without_a_template_turns_are_plain(tmp_path: Path) -> None:
  assert find([tmp_path], False) == Plain() and find([tmp_path], True) == Last()


@pytest.mark.parametrize(
  "source", ["{{ raise_exception('no system') }}", "{% for %}", "{{ messages.append(1) }}"]
)
def test_what_a_template_refuses_is_told(source: str) -> None:
  with pytest.raises(UserError, match="f.json refuses this conversation: "):
    Template(source, {}, "f.json").text(TALK)
