"""The GPU check: rates are shares of the peak; engines that cannot run, and no GPU, are told."""

import json
import pathlib
import sys

from benchmarks import gpu_check

RUN = {"size": "1b", "kernel": "auto", "seconds": 0.5, "flops": 50e12, "tokens": 1000, "loss": 3.0}
FAILED = {"size": "1b", "kernel": "gpu", "failed": "it is for NVIDIA GPUs"}


def test_rates_are_work_over_time_and_shares_of_both_peaks():
  row = gpu_check.rated(RUN, 200e12, 400e12)
  assert row["tokens_per_second"] == 2000 and row["tflops"] == 100
  assert row["mfu_of_measured"] == 0.5 and row["mfu_of_published"] == 0.25


def test_a_peak_that_nobody_published_is_unknown():
  assert gpu_check.rated(RUN, 200e12, None)["mfu_of_published"] is None
  assert "unknown" in gpu_check.table([gpu_check.rated(RUN, 200e12, None)], "GPU", 200e12)


def test_the_table_names_the_device_and_what_could_not_run():
  rows = [gpu_check.rated(run, 200e12, 400e12) for run in (RUN, FAILED)]
  text = gpu_check.table(rows, "NVIDIA X", 200e12)
  assert "NVIDIA X: a bfloat16 product reaches 200.0 TFLOP/s" in text
  assert "50.0%" in text and "25.0%" in text and "it is for NVIDIA GPUs" in text


def test_without_a_gpu_the_command_says_so_and_fails(monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["gpu_check"])
  assert gpu_check.main() == 1
  assert "the accelerator asked for (gpu) is not there" in capsys.readouterr().err


def test_the_page_shows_what_was_measured():
  root = pathlib.Path(gpu_check.__file__).parents[1]
  runs = json.loads((root / "benchmarks/results/gpu_check.json").read_text())["runs"]
  page = (root / "docs/parallelism.md").read_text()
  for run in runs:
    row = (
      f"| {1e3 * run['seconds']:.0f} | {round(run['tokens_per_second'], -3):,.0f} |"
      f" {run['tflops']:.0f} | {run['mfu_of_measured']:.0%} | {run['mfu_of_published']:.0%} |"
    )
    if run["kernel"] != "gpu":  # what "auto" took, measured once more: the page shows one of them
      assert row.replace("%", " %") in page
