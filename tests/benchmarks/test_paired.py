"""The paired runner: order, environment, ratios, records, and what it says when a side fails."""

from __future__ import annotations

import json
import pathlib

import pytest

from benchmarks import _paired

ECHO = """
import json, os, sys
with open(os.environ["ORDER"], "a") as file:
  file.write(os.environ["NAME"])
print("a line of noise")
seconds = [float(os.environ["SECONDS"])] * 3
print(json.dumps({"seconds": seconds, "versions": {os.environ["NAME"]: "1"}}))
"""


@pytest.fixture
def module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
  (tmp_path / "echo_side.py").write_text(ECHO)
  (tmp_path / "broken_side.py").write_text("raise SystemExit('no torch here')")
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  monkeypatch.setenv("ORDER", str(tmp_path / "order"))
  return "echo_side"


def _case(module: str) -> _paired.Case:
  ours = _paired.Side(module, {"NAME": "A", "SECONDS": "0.25"})
  theirs = _paired.Side(module, {"NAME": "B", "SECONDS": "1.0"})
  return _paired.Case("echo", ours, theirs, ("train", "gpt2", "tiny", "3"), 0.5)


def test_sides_run_in_turn_and_the_ratio_is_ours_over_theirs(
  module: str, tmp_path: pathlib.Path
) -> None:
  result = _paired.run(_case(module), pairs=3)
  assert (tmp_path / "order").read_text() == "ABABAB"
  assert result["ours"] == [0.25] * 3 and result["theirs"] == [1.0] * 3
  assert result["ratio"] == 0.25 and result["versions"] == {"A": "1", "B": "1"}


def test_record_tells_machine_and_command(
  module: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  output = tmp_path / "out.json"
  _paired.report("a title", [_paired.run(_case(module), pairs=1)], str(output))
  record = json.loads(output.read_text())
  assert record["machine"]["command"].startswith("python -m ")
  assert record["machine"]["cores"] >= 1 and record["results"][0]["name"] == "echo"
  shown = capsys.readouterr().out
  assert "0.250" in shown and "≤ 0.50 met" in shown


def test_side_that_fails_is_an_error_with_its_last_line(module: str) -> None:
  with pytest.raises(_paired.BenchmarkError, match="no torch here"):
    _paired.Side("broken_side", {}).run("train")


def test_side_does_not_inherit_tunables(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
  monkeypatch.setenv("GLIBC_TUNABLES", "x=1")
  assert not {"XLA_FLAGS", "GLIBC_TUNABLES"} & set(_paired.environment({}))
  assert "hugetlb=1" in _paired.environment(_paired.TUNED)["GLIBC_TUNABLES"]


def test_main_measures_theirs_as_it_starts_and_with_our_malloc(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  asked = []

  def run(case: _paired.Case, pairs: int) -> dict:
    asked.append((case.ours.environment, case.theirs.environment, case.arguments, pairs))
    return {"name": case.name, "goal": case.goal, "ours": [1.0], "theirs": [2.0]}

  monkeypatch.setattr(_paired, "run", run)
  argv = ["--size", "tiny", "--family", "gpt2", "--pairs", "2", "--steps", "4"]
  code = _paired.main("train", "t", {"gpt2": 0.8, "t5": 0.9}, argv)
  assert code == 0
  arguments = ("train", "gpt2", "tiny", "4")
  ours = _paired.TUNED
  assert asked == [(ours, {}, arguments, 2), (ours, ours, arguments, 2)]
