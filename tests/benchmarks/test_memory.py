"""The table of memory plans has every file of gin/memory, and is put between its marks."""

from __future__ import annotations

import json

from benchmarks import memory


def test_every_shipped_plan_is_in_the_table() -> None:
  shipped = {f"memory/{path.name}" for path in (memory.ROOT / "gin/memory").glob("*.gin")}
  assert shipped == {name for files in memory.PLANS.values() for name in files}


def test_a_plan_s_files_name_a_policy_a_matmul_or_a_memory() -> None:
  assert memory.parts(memory.PLANS["none"]) == (None, None, memory.Memory())
  for name, files in memory.PLANS.items():
    policy, matmul, kept = memory.parts(files)
    assert name == "none" or policy or matmul or kept != memory.Memory()


def test_a_plan_that_does_not_fit_is_shown_as_such() -> None:
  gib = {"parameters": 0.5, "optimizer": 1.0, "activations": 2.0, "peak": 20.0, "host": 0.0}
  rows = memory.table({"none": {"fits": False, "gib": gib, "ratio": 1.0}}).splitlines()
  assert rows[-1] == "| `none` | 0.50 | 1.00 | 2.00 | 20.00 (does not fit) | 0.00 | 1.00 |"


def test_the_table_of_the_page_is_that_of_the_committed_results() -> None:
  plans = json.loads((memory.ROOT / "benchmarks/results/memory.json").read_text())["plans"]
  page = memory.DOCS.read_text()
  assert memory.write(page, memory.table(plans)) == page
  assert memory.write(memory.write(page, "new"), "newer") == memory.write(page, "newer")
