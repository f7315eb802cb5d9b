"""`mtm compile` for a slice of four chips: exit codes, and the compiler's own words on memory.

Needs `libtpu`, see `test_tpu.py`; `make tpu` runs it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtm import compile as verb

pytestmark = pytest.mark.tpu
FLAGS = [
  "--gin_file=runs/pretrain.gin", "--gin_file=families/llama/tiny.gin",
  "--gin_file=mesh/fsdp.gin", "--gin.TASK_FEATURE_LENGTHS={'targets': 256}", "--topology=v5e:2x2",
  "--quick",
]  # fmt: skip


@pytest.fixture(autouse=True)
def chips() -> None:
  pytest.importorskip("libtpu")


def test_a_run_that_fits_returns_0(tmp_path: Path) -> None:
  output = tmp_path / "report.json"
  assert verb.main([*FLAGS, "--gin.BATCH_SIZE=8", f"--output={output}"]) == 0
  report = json.loads(output.read_text())
  assert report["fits"] and report["chips"] == 4 and not report["open_loops"]
  assert 0 < report["hbm_gib_per_chip"]["peak"] < 1
  # Every layer is gathered at least for the forward pass.
  assert sum(kind["runs"] for kind in report["collectives"].values()) >= 8


def test_a_run_that_does_not_fit_returns_1_in_the_compilers_words(tmp_path: Path) -> None:
  output = tmp_path / "report.json"
  flags = [*FLAGS, "--gin.BATCH_SIZE=4096", "--no-advice", f"--output={output}"]
  assert verb.main(flags) == 1
  report = json.loads(output.read_text())
  memory = report["hbm_gib_per_chip"]
  assert "Ran out of memory" in report["message"] and memory["peak"] > memory["limit"]
