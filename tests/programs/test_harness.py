"""The command line of the harness; its tasks run in tests/parity/test_lm_eval.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mtm import cli
from mtm.errors import UserError
from mtm.programs import harness


def test_the_flag_alone_decides() -> None:
  assert harness.asked(["--lm_eval=x", "P"]) and harness.asked(["P", "--lm_eval", "x"])
  assert not harness.asked(["--gin_file=lm_eval.gin"])


def test_a_missing_package_is_told_with_its_cure(
  monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  monkeypatch.setitem(sys.modules, "lm_eval", None)
  assert cli.main(["eval", "--lm_eval=mine", "mtm_runs/mine"]) == 1
  assert 'needs lm_eval: pip install "mtm[eval]"' in capsys.readouterr().err


def test_results_and_samples_are_written(tmp_path: Path) -> None:
  results = {"results": {"mine": {"acc,none": 1.0}}, "samples": {"mine": [{"doc_id": 0}]}}
  harness.write(results, tmp_path / "out")
  kept = json.loads((tmp_path / "out" / "results.json").read_text())
  assert kept == {"results": {"mine": {"acc,none": 1.0}}}
  line = (tmp_path / "out" / "samples.jsonl").read_text()
  assert json.loads(line) == {"task": "mine", "doc_id": 0}
  with pytest.raises(UserError, match="cannot write into"):
    harness.write(results, tmp_path / "out" / "results.json")
