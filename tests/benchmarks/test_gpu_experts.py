"""The GPU's benchmark of experts: layers beside the dense one; the page shows them."""

import json
import pathlib

import pytest

from benchmarks import gpu_experts
from benchmarks._experts_mtm import Shape


def test_layers_are_multiples_of_the_dense_one() -> None:
  rows = gpu_experts.measure(Shape(1, 16, 8, 16, "bfloat16"), ["dropless-2-gather"])
  assert [row["layer"] for row in rows] == ["dense", "dropless-2-gather"]
  assert rows[0]["of dense"] == 1.0 and rows[1]["ms"] > 0


def test_without_a_gpu_it_says_so(
  monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  monkeypatch.setattr("sys.argv", ["gpu_experts"])
  gpu_experts.main()
  assert "no GPU" in capsys.readouterr().out


def test_the_page_shows_what_was_measured() -> None:
  root = pathlib.Path(gpu_experts.__file__).parents[1]
  rows = json.loads((root / "benchmarks/results/gpu_experts.json").read_text())["rows"]
  of = {row["layer"]: row["of dense"] for row in rows}
  page = (root / "docs/experts.md").read_text().splitlines()
  for kind, title in (("capacity", "capacity 1.25"), ("dropless", "dropless")):
    for experts in (8, 64):
      (line,) = [line for line in page if line.startswith(f"| {title}, {experts} experts |")]
      shown = [cell.strip() for cell in line.strip("|").split("|")[1:]]
      for engine, cell in zip(("gather", "einsum", "ragged"), shown, strict=True):
        if cell:
          assert float(cell) == pytest.approx(of[f"{kind}-{experts}-{engine}"], rel=0.04)
