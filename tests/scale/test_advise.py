"""What is tried, in which order, where a run does not fit."""

from __future__ import annotations

from collections.abc import Callable

import jax
import pytest

from mtm.programs import planned
from mtm.scale import advise
from mtm.scale.program import Compiled
from mtm.training.trainer import Trainer

GIB = 2**30


@pytest.fixture(scope="module")
def trainer() -> Trainer:
  files = ["runs/pretrain.gin", "families/llama/tiny.gin", "optim/adamw.gin", "mesh/data.gin"]
  flags = ["--gin.TASK_FEATURE_LENGTHS={'targets': 32}", "--gin.BATCH_SIZE=32"]
  return planned.of(files, flags).trainer(jax.devices())


def refusal(gib: float, limit: float) -> Compiled:
  said = f"Ran out of memory in memory space hbm. Used {gib}G of {limit}G hbm."
  return Compiled(None, said, 0.0, 0.0)


def fits(wanted: Callable[[Trainer], float], limit: float) -> Callable[[Trainer], Compiled]:
  def compiled(trainer: Trainer) -> Compiled:
    return refusal(wanted(trainer), limit) if wanted(trainer) > limit else Compiled(1, "", 0, 0)

  return compiled


def test_cheap_changes_come_before_dear_ones(trainer: Trainer) -> None:
  told = [change.told for change in advise.changes(trainer)]
  assert told[0].startswith("compute each layer again")
  assert told[1].startswith("MICROBATCHES = 2") and told[2].startswith("MICROBATCHES = 4")
  assert told[3].startswith("mesh.mesh: data = 1, fsdp = 8")
  assert "MICROBATCHES = 4" in told[-1] and len(told) == 6


def test_the_first_change_that_fits_is_told(trainer: Trainer) -> None:
  def wanted(run: Trainer) -> float:
    return 40.0 / run.microbatches

  said = advise.cheapest(trainer, refusal(40, 15), 0, lambda _: None, fits(wanted, 15))
  assert said == "it fits with MICROBATCHES = 4, with REMAT = @remat.full()"


def test_what_cannot_fit_by_an_estimate_is_not_compiled(trainer: Trainer) -> None:
  tried: list[str] = []
  said = advise.cheapest(trainer, refusal(1000, 15), 0, tried.append, fits(lambda _: 1000.0, 15))
  assert not tried and "take more chips" in said


def test_trying_ends(trainer: Trainer) -> None:
  tried: list[str] = []
  said = advise.cheapest(trainer, refusal(20, 15), 0, tried.append, fits(lambda _: 16.0, 15))
  assert 1 <= len(tried) <= advise.TRIES and said.startswith("tried, and does not fit either")


@pytest.mark.parametrize(
  "said, wanted",
  [
    ("Used 35.25G of 15.75G hbm. Exceeded", (35.25 * GIB, 15.75 * GIB)),
    ("HLO temporaries (512.5M) exceeds available HBM (15.75G).", (512.5 * 2**20, 15.75 * GIB)),
    ("something else", None),
  ],
)
def test_the_compiler_says_how_much_it_wants(said: str, wanted: tuple[float, float] | None) -> None:
  assert Compiled(None, said, 0.0, 0.0).wanted == wanted
