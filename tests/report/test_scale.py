"""The report of a program compiled for a slice, as text and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtm.report import scale, tables

FITS: dict[str, Any] = {
  "fits": True, "topology": "v5e:2x2", "chips": 4, "parameters": 4_200_000, "mesh": {"fsdp": 4},
  "hbm_gib_per_chip": {"limit": 16.0, "peak": 1.5, "parameters": 0.5, "temporaries": 1.0},
  "collectives": {
    "all-gather": {"runs": 30, "gib": 1.5, "ici_gib": 1.125, "dcn_gib": 0.0, "seconds": 0.01},
  },
  "compile_seconds": 12.0, "message": "", "replicated": [{"name": "w", "gib": 0.25, "why": "kept"}],
  "predicted": {"step_seconds": 0.5, "products_seconds": 0.3, "memory_seconds": 0.2,
                "links_seconds": 0.01, "exposed_seconds": 0.0, "mfu": 0.61},
}  # fmt: skip
REFUSED = FITS | {
  "fits": False, "collectives": {}, "predicted": None, "replicated": [],
  "hbm_gib_per_chip": {"limit": 15.75, "peak": 77.75, "parameters": 0.5},
  "message": "RESOURCE_EXHAUSTED: Ran out of memory on HBM\n\n=====\n  a program of 77.75G",
  "advice": ["it fits with MICROBATCHES = 8"],
}  # fmt: skip


def test_a_run_that_fits_is_told_with_its_memory_links_and_prediction() -> None:
  text = tables.text(scale.table(FITS, "run.gin"))
  assert "run.gin: fits on v5e:2x2, fsdp=4" in text
  assert "4.20M parameters, 4 chips; 1.50 of 16.0 GiB on each; compiled in 12.0 s" in text
  for line in ("parameters", "all-gather", "model FLOPs utilisation, at most", "61 %", "kept"):
    assert line in text


def test_a_run_that_does_not_fit_is_told_with_the_compilers_words_and_a_way_out() -> None:
  text = tables.text(scale.table(REFUSED, "run.gin"))
  assert "does not fit" in text and "77.75 of 15.8 GiB" in text
  assert "Ran out of memory on HBM" in text and "=====" not in text
  assert "it fits with MICROBATCHES = 8" in text


def test_both_have_a_picture(tmp_path: Path) -> None:
  for name, report in (("a", FITS), ("b", REFUSED)):
    path = scale.picture(report, tmp_path / f"{name}.png", "title")
    assert path.read_bytes().startswith(b"\x89PNG")
