"""A run is planned from its gin files alone: no data, no device of its own."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from mtm.errors import UserError
from mtm.programs import planned

FILES = ["runs/pretrain.gin", "families/llama/tiny.gin", "mesh/fsdp.gin"]
LENGTHS = "--gin.TASK_FEATURE_LENGTHS={'targets': 32}"


def test_a_run_that_names_no_task_and_no_directory_can_be_planned() -> None:
  run = planned.of(FILES, [LENGTHS, "--gin.BATCH_SIZE=16", "--gin.MICROBATCHES=2"])
  trainer = run.trainer(jax.devices())
  assert run.batch_size == 16 and trainer.microbatches == 2
  assert trainer.batch["decoder_target_tokens"].shape == (16, 32)
  assert dict(trainer.plan.mesh.shape)["fsdp"] == jax.device_count()
  assert run.trainer(jax.devices(), data=-1).plan.mesh.shape["fsdp"] == 1


@pytest.mark.parametrize(
  "file, said",
  [
    ("pipeline", "8 microbatches, 1 rounds: each stage waits 11.1%"),
    ("pipeline_1f1b", "8 microbatches, one forward and one backward: each stage waits 11.1%"),
    ("pipeline_tokens", "1 microbatches of 8 slices of the sequence: each stage waits 11.1%"),
  ],
)
def test_each_pipeline_is_a_gin_file(file: str, said: str) -> None:
  run = planned.of([*FILES[:2], f"mesh/{file}.gin"], [LENGTHS])
  assert said in run.parts["pipeline"].told(2)
  assert run.plan(jax.devices()).mesh.shape["stage"] == 2


def test_every_shipped_scale_is_planned() -> None:
  found = sorted((Path(__file__).parents[2] / "gin/runs/scale").glob("*.gin"))
  assert len(found) >= 10
  for path in found:
    assert planned.of([f"runs/scale/{path.name}"], []).parts["microbatches"] >= 1


@pytest.mark.parametrize(
  "files, flags, said",
  [
    (FILES, ["--gin.TASK_FEATURE_LENGTHS=None"], "give the lengths"),
    (FILES, [LENGTHS, "--gin.BACH_SIZE=3"], "BACH_SIZE"),
    (FILES, [], "TASK_FEATURE_LENGTHS"),
  ],
)
def test_what_a_plan_needs_is_asked_for(files: list[str], flags: list[str], said: str) -> None:
  with pytest.raises(UserError, match=said):
    planned.of(files, flags)


def test_an_objective_that_does_not_make_what_the_model_reads_is_refused() -> None:
  run = planned.of([*FILES, "objectives/mlm.gin"], [LENGTHS])
  with pytest.raises(UserError, match="decoder_input_tokens"):
    run.trainer(jax.devices())
