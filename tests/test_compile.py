"""`mtm compile`, here for eight virtual CPU devices in the place of TPU chips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import pytest

from mtm import compile as verb
from mtm.errors import UserError
from mtm.scale import program
from mtm.scale.program import Compiled
from mtm.scale.topology import Topology

FLAGS = [
  "--gin_file=runs/pretrain.gin", "--gin_file=families/llama/tiny.gin",
  "--gin_file=mesh/fsdp.gin", "--gin.TASK_FEATURE_LENGTHS={'targets': 16}",
  "--gin.BATCH_SIZE=8", "--gin.llama.llama.vocab=64", "--topology=v5e:2x4",
]  # fmt: skip
KEYS = {
  "fits", "topology", "chips", "parameters", "hbm_gib_per_chip", "collectives", "compile_seconds",
  "predicted",
}  # fmt: skip


@pytest.fixture(autouse=True)
def cpu(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(Topology, "devices", lambda self: jax.devices())


def test_a_run_that_fits_is_reported_and_returns_0(tmp_path: Path, capsys: Any) -> None:
  files = [f"--output={tmp_path}/report.json", f"--text={tmp_path}/program.txt"]
  assert verb.main([*FLAGS, *files]) == 0
  assert "fits on v5e:2x4, fsdp=8" in capsys.readouterr().out
  report = json.loads((tmp_path / "report.json").read_text())
  assert report.keys() >= KEYS
  memory = report["hbm_gib_per_chip"]
  parts = {k: v for k, v in memory.items() if k not in ("peak", "limit", "host")}
  assert memory["peak"] == pytest.approx(sum(parts.values()))
  assert report["collectives"]["all-gather"]["runs"] > 0
  assert 0 < report["predicted"]["mfu"] < 1
  # Products of three passes, of which the devices share the rows.
  assert report["flops_per_chip"] * 8 == pytest.approx(report["model_flops"], rel=0.02)
  assert (tmp_path / "program.txt").read_text().startswith("HloModule")
  assert (tmp_path / "report.png").exists()


def test_generation_is_reported_by_the_token(tmp_path: Path, capsys: Any) -> None:
  sizes = ["--decode", "--batch=8", "--prompt=8", "--length=4"]
  assert verb.main([*FLAGS, *sizes, f"--output={tmp_path}/report.json"]) == 0
  report = json.loads((tmp_path / "report.json").read_text())
  assert report.keys() >= KEYS and "tokens a second" in capsys.readouterr().out
  predicted = report["predicted"]
  assert predicted["prefill_seconds"] > 0
  # Of one token, not of all four that the loop makes.
  assert predicted["tokens_per_second"] == pytest.approx(8 / predicted["step_seconds"])
  # Each device goes on with its own rows: parameters are gathered before, and no cache ever.
  assert "all-gather" not in report["collectives"]


def test_a_run_that_does_not_fit_returns_1_with_advice(
  monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
  def compiled(trainer: Any, quick: bool = False) -> Compiled:
    fits = trainer.microbatches > 1
    return Compiled(1 if fits else None, "Used 17G of 15.75G hbm", 0.0, 0.0)

  monkeypatch.setattr(program, "training", compiled)
  flags = [*FLAGS, "--gin.BATCH_SIZE=64", f"--output={tmp_path}/report.json"]
  assert verb.main(flags) == 1
  report = json.loads((tmp_path / "report.json").read_text())
  assert report["hbm_gib_per_chip"]["peak"] == 17 and not report["fits"]
  assert "it fits with MICROBATCHES = 2" in capsys.readouterr().out


def test_a_topology_is_checked_before_anything_is_built() -> None:
  with pytest.raises(UserError, match="v5p:8x8x8"):
    verb.main([*FLAGS[:-1], "--topology=v5p:8"])
