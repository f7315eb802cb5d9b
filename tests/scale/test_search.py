"""What an estimate prefers, and what is best of what was tried."""

from __future__ import annotations

import jax
import pytest

from mtm.programs import planned
from mtm.scale import search, topology
from mtm.scale.search import Candidate, Facts

V5P = topology.parse("v5p:4x4x4")
# A dense model of 7 B: 32 layers of 4,096; AdamW; 1,024 rows of 2,048.
DENSE = Facts(
  7 * 10**9, 0, 12.0, 32, 32 * 4096, 32_000, 1024, 1024 * 2048, 6 * 7 * 10**9 * 1024 * 2048
)


def test_candidates_divide_the_chips_and_the_batch() -> None:
  for candidate in search.candidates(64, 1, DENSE._replace(rows=96)):
    size = {"data": 1, "fsdp": 1, "expert": 1, "tensor": 1, **candidate.sizes}
    assert size["data"] * size["fsdp"] * size["expert"] * size["tensor"] == 64
    assert 96 % (size["data"] * size["fsdp"] * candidate.microbatches) == 0
    assert size["expert"] == 1


def test_recomputing_and_microbatches_cost_time_and_save_memory() -> None:
  def of(**fields: object) -> search.Estimate:
    return search.estimate(Candidate({"fsdp": 64}, **fields), DENSE, V5P)

  plain, full, parts = of(remat=None), of(remat="full"), of(remat=None, microbatches=4)
  assert full.bytes < plain.bytes and full.seconds > plain.seconds
  assert parts.bytes < plain.bytes and parts.seconds >= plain.seconds


def test_the_best_fit_and_come_in_order() -> None:
  found = search.best(DENSE, V5P, 5)
  guesses = [search.estimate(c, DENSE, V5P) for c in found]
  assert len(found) == 5
  assert all(g.bytes <= search.ROOM * V5P.chip.hbm for g in guesses)
  assert [g.seconds for g in guesses] == sorted(g.seconds for g in guesses)
  assert not search.best(DENSE, V5P, 5, limit=2**20)


def test_only_what_nothing_beats_in_both_is_pareto_optimal() -> None:
  assert search.pareto([(1, 9), (2, 5), (3, 6), None, (4, 1), (1, 9)]) == {0, 1, 4, 5}


def test_facts_of_a_run_and_a_candidate_as_gin() -> None:
  files = ["runs/pretrain.gin", "families/llama/tiny.gin", "optim/adamw.gin", "mesh/data.gin"]
  flags = ["--gin.TASK_FEATURE_LENGTHS={'targets': 32}", "--gin.BATCH_SIZE=16"]
  found = search.facts(planned.of(files, flags).trainer(jax.devices()))
  assert found.depth == 2 * 64 and found.layers == 2 and found.state == pytest.approx(12, rel=1e-3)
  assert (found.rows, found.tokens, found.expert_parameters) == (16, 16 * 32, 0)


@pytest.mark.parametrize(
  "candidate",
  [Candidate({"fsdp": 4, "tensor": 2}, None, 2), Candidate({}, "full", 1, 1, "mesh/fsdp.gin")],
)
def test_a_candidate_is_a_gin_file_after_the_others(candidate: Candidate, tmp_path) -> None:
  file = tmp_path / "plan.gin"
  file.write_text(candidate.gin(32))
  flags = ["--gin.TASK_FEATURE_LENGTHS={'targets': 32}"]
  files = ["runs/pretrain.gin", "families/llama/tiny.gin", str(file)]
  run = planned.of(files, flags)
  mesh = run.trainer(jax.devices()).plan.mesh
  assert run.batch_size == 32 and mesh.shape["fsdp"] == (8 if candidate.file else 4)
