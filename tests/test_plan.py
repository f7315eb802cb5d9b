"""`mtm plan`, here for eight virtual CPU devices in the place of TPU chips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import pytest

from mtm import plan as verb
from mtm.errors import UserError
from mtm.programs import planned
from mtm.scale import program, report
from mtm.scale.program import Compiled
from mtm.scale.topology import Topology

FLAGS = [
  "--gin_file=runs/pretrain.gin", "--gin_file=families/llama/tiny.gin",
  "--gin.TASK_FEATURE_LENGTHS={'targets': 16}", "--gin.llama.llama.vocab=64",
  "--topology=v5e:2x4", "--target-batch=16", "--tries=2",
]  # fmt: skip


@pytest.fixture(autouse=True)
def guessed(monkeypatch: pytest.MonkeyPatch) -> None:
  """No compiler: tensor parallelism is quick and all else slow; whole parameters do not fit."""

  def of_training(trainer: Any, where: Topology, made: Compiled) -> dict[str, Any]:
    shape = trainer.plan.mesh.shape
    return {
      "fits": shape["fsdp"] > 1, "hbm_gib_per_chip": {"peak": 1.0, "limit": 16.0},
      "predicted": {"step_seconds": 1.0 / shape["tensor"], "mfu": 0.5} if shape["fsdp"] > 1
      else None,
    }  # fmt: skip

  monkeypatch.setattr(Topology, "devices", lambda self: jax.devices())
  monkeypatch.setattr(program, "training", lambda trainer, quick: Compiled(1, "", 0, 0))
  monkeypatch.setattr(report, "of_training", of_training)


def test_the_quickest_that_fits_is_written_and_never_slower_than_a_file(
  tmp_path: Path, capsys: Any
) -> None:
  output = tmp_path / "plan.gin"
  assert verb.main([*FLAGS, f"--output={output}"]) == 0
  said = capsys.readouterr().out
  assert "mesh/data.gin" in said and "does not fit" in said and "best of its size" in said
  run = planned.of(["runs/pretrain.gin", "families/llama/tiny.gin", str(output)], FLAGS[2:4])
  # mesh/fsdp_tensor.gin has four ways of `tensor`, and nothing that was tried has more.
  assert run.trainer(jax.devices()).plan.mesh.shape["tensor"] >= 4


def test_a_slice_on_which_nothing_fits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
  refused = {"fits": False, "hbm_gib_per_chip": {"limit": 16.0}, "predicted": None}
  monkeypatch.setattr(report, "of_training", lambda *_: refused)
  with pytest.raises(UserError, match="take more chips"):
    verb.main(FLAGS)
