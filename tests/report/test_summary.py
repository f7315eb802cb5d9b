"""The last screen of a run holds every fact, at any width, and its commands can be copied."""

from __future__ import annotations

import dataclasses
import io
import random
import re
import shutil
import subprocess

import pytest
from rich.console import Console

from mtm.report.summary import Summary, compressed_bits_per_byte

_COMMAND = "mtm infer --gin_file=runs/infer.gin --gin.CHECKPOINT_PATH=\"'runs/a/long/path'\" " * 2
_SUMMARY = Summary(
  step=1500,
  total=1500,
  tokens=9.83e6,
  parameters=5_312_000,
  losses={"stdlib_code": 2.431},
  bits_per_byte={"stdlib_code": {"this model": 1.4, "gzip -9": 2.8, "xz -9": 2.1}},
  ledger={"compiling": 12.3, "training": 231.0, "checkpoints": 0.1},
  waiting=0.0123,
  paths={"model": "/home/[someone]/" + "x" * 100, "card": "runs/card.md"},
  commands={"complete code": _COMMAND, "train longer": "make run"},
)


def _shown(summary: Summary, width: int, terminal: bool = False) -> str:
  console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
  summary.show(console)
  return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_every_fact_is_told(width: int, terminal: bool) -> None:
  text = _shown(_SUMMARY, width, terminal)
  for fact in (
    "Trained 1,500 steps, 9.83M tokens, 5.31M parameters",
    "stdlib_code  2.431 nats/token",
    "this model  1.400", "gzip -9     2.800", "xz -9       2.100",
    "compiling        12.3 s", "training     3 min 51 s", "checkpoints      0.10 s",
    "1.2 %",
    "card   runs/card.md",
    "# train longer",
  ):  # fmt: skip
    assert fact in text


@pytest.mark.parametrize("width", [40, 80])
def test_paths_and_commands_stay_on_one_line(width: int) -> None:
  lines = [line.strip() for line in _shown(_SUMMARY, width).splitlines()]
  assert _COMMAND.strip() in lines
  assert f"model  {_SUMMARY.paths['model']}" in lines


@pytest.mark.parametrize("width", [80, 120])
def test_everything_else_fits_the_width(width: int) -> None:
  summary = dataclasses.replace(_SUMMARY, paths={}, commands={})
  assert max(map(len, _shown(summary, width).splitlines())) <= width


def test_bars_are_as_long_as_their_numbers() -> None:
  bars = {
    line.split("  ")[1]: line.count("━")
    for line in _shown(_SUMMARY, 80).splitlines()
    if re.match(r"  \w.* [\d.]+  ━", line)
  }
  # Two characters of rounding, as each bar has a whole number of them.
  assert abs(bars["this model"] - bars["gzip -9"] / 2) <= 1
  assert abs(bars["xz -9"] - bars["gzip -9"] * 0.75) <= 1


def test_a_run_that_was_stopped_says_why_and_how_far_it_got() -> None:
  summary = dataclasses.replace(_SUMMARY, step=300, stopped="SIGTERM")
  assert "Stopped by SIGTERM after 300 of 1,500 steps" in _shown(summary, 80)


def test_what_was_not_measured_leaves_no_empty_heading() -> None:
  summary = dataclasses.replace(_SUMMARY, losses={}, bits_per_byte={}, commands={})
  text = _shown(summary, 80)
  assert "Held-out" not in text and "next" not in text


def test_several_splits_are_named_and_nan_has_no_bar() -> None:
  splits = {"code": {"this model": float("nan"), "xz -9": 2.0}, "docs": {"this model": 1.0}}
  text = _shown(dataclasses.replace(_SUMMARY, bits_per_byte=splits), 80)
  assert "  code\n  this model    nan\n" in text and "  docs\n" in text


def test_compressors_are_told_only_where_they_were_run() -> None:
  alone = dataclasses.replace(_SUMMARY, bits_per_byte={"docs": {"this model": 1.0}})
  assert "compressors" not in _shown(alone, 80) and "compressors" in _shown(_SUMMARY, 80)


def _text(size: int) -> bytes:
  words = [f"word{i}" for i in range(500)]
  return " ".join(random.Random(0).choices(words, k=size // 8)).encode()


@pytest.mark.parametrize(
  ("command", "tolerance"),
  # gzip has its own deflate, whose choices differ a little from zlib's; xz is the same library.
  [("gzip -9", 2e-3), ("xz -9", 1e-4)],
)
def test_compressors_reach_what_the_commands_reach(command: str, tolerance: float) -> None:
  if shutil.which(command.split()[0]) is None:
    pytest.skip(f"{command.split()[0]} is not installed")
  data = _text(200_000)
  packed = subprocess.run([*command.split(), "-c"], input=data, capture_output=True, check=True)
  ours = compressed_bits_per_byte(data)[command]
  # 64 bytes: a file name or a block index in the header.
  assert ours * len(data) / 8 == pytest.approx(len(packed.stdout), rel=tolerance, abs=64)


def test_random_bytes_need_eight_bits_and_no_bytes_are_no_contest() -> None:
  noise = random.Random(0).randbytes(100_000)
  assert all(8 < bits < 8.02 for bits in compressed_bits_per_byte(noise).values())
  assert compressed_bits_per_byte(b"") == {}
