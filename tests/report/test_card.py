"""The card tells what a model was made of, in Markdown that keeps its columns."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtm.report import card
from mtm.report.card import Card

_CARD = Card(
  name="quickstart",
  model="gpt2.gpt2(embed=256, activation=a|b)",
  parameters=5_312_000,
  objective="CausalLM()",
  data={
    "stdlib_code": {"rate": 3.0, "realised": 0.7512, "examples": 1234, "tokens": 1_000_000},
    "mine": {},
  },
  split="stdlib_mixture, train",
  licences={"stdlib_code": "PSF-2.0"},
  step=1500,
  tokens=9_830_400.0,
  held_out={"validation": {"loss": 2.43, "bits_per_byte": 1.4}},
  ledger={"compiling": 12.0, "training": 231.0},
  versions={"python": "3.11.7", "device": "1 × cpu"},
)


def _row(text: str, first: str) -> list[str]:
  (line,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
  return [cell.strip() for cell in line.strip("|").replace("\\|", "¦").split("|")]


def test_the_data_has_realised_shares_and_licences() -> None:
  text = _CARD.text()
  assert _row(text, "`stdlib_code`") == [
    "`stdlib_code`", "3", "75.1%", "1,234", "1,000,000", "PSF-2.0"
  ]  # fmt: skip
  assert _row(text, "`mine`") == ["`mine`", "-", "-", "-", "-", "not known"]


def test_records_asked_in_another_way_keep_their_licence() -> None:
  named = {"stdlib_code:p1:4shot": {}, "stdlib_code#ab12": {}, "stdlib_codes": {}}
  text = dataclasses.replace(_CARD, data=named).text()
  told = {name: _row(text, f"`{name}`")[-1] for name in named}
  assert list(told.values()) == ["PSF-2.0", "PSF-2.0", "not known"]


def test_the_ledger_adds_up_and_tokens_are_exact() -> None:
  text = _CARD.text()
  assert _row(text, "together") == ["together", "4 min 03 s"]
  assert "1,500 steps on 9,830,400 target tokens" in text


def test_held_out_measures_objective_and_versions_are_listed() -> None:
  text = _CARD.text()
  assert "| `validation` | bits per byte | 1.4000 |" in text
  assert _row(text, "objective") == ["objective", "`CausalLM()`"]
  assert _row(text, "device") == ["device", "1 × cpu"]


def test_a_bar_in_a_value_splits_no_column() -> None:
  assert _row(_CARD.text(), "model") == ["model", "`gpt2.gpt2(embed=256, activation=a¦b)`"]


def test_a_run_that_was_not_evaluated_says_so() -> None:
  assert "Nothing was evaluated." in dataclasses.replace(_CARD, held_out={}).text()


def test_it_lies_in_the_model_directory_and_is_replaced_whole(tmp_path: Path) -> None:
  path = _CARD.write(tmp_path / "run")
  dataclasses.replace(_CARD, step=2000).write(tmp_path / "run")
  assert path == tmp_path / "run" / "card.md"
  assert "2,000 steps" in path.read_text(encoding="utf-8")


def test_versions_are_those_installed() -> None:
  found = card.versions("1 × cpu", "0.1.0")
  assert found["python"] == platform.python_version()
  assert found["jax"] == importlib.metadata.version("jax")
  assert (found["mtm"], found["device"]) == ("0.1.0", "1 × cpu")


_LEDGERS = st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1e6))


@given(_LEDGERS, _LEDGERS)
def test_added_ledgers_lose_no_second(before: dict[str, float], now: dict[str, float]) -> None:
  both = card.added(before, now)
  expected = sum(before.values()) + sum(now.values())
  assert sum(both.values()) == pytest.approx(expected)
  assert list(both)[: len(now)] == list(now)
