"""The restart benchmark knows a first step by the run's metrics, and tells why a run failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import _paired, restart


def test_a_step_is_told_by_its_line_in_the_metrics(tmp_path: Path) -> None:
  assert not restart.told(tmp_path, 1)
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\n')
  assert restart.told(tmp_path, 1) and not restart.told(tmp_path, 3)


def test_a_run_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
  with pytest.raises(_paired.BenchmarkError, match="llama.llama.layer"):
    restart.first_step(["--gin.llama.llama.layer=2"], tmp_path / "run", tmp_path / "cache", 1)
