"""Interrupted at any point, the same command goes on with the same losses, bit for bit."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mtm.training import checkpoint
from mtm.training.metrics import read
from tests.e2e import driver

ROOT = Path(__file__).parents[2]


def command(model_dir, *fault):
  """Runs the driver; returns its exit code and last words."""
  done = subprocess.run(
    [sys.executable, "-m", "tests.e2e.driver", str(model_dir), *map(str, fault)],
    cwd=ROOT, capture_output=True, text=True, timeout=300,
  )  # fmt: skip
  assert done.returncode <= 0, done.stderr[-3000:]
  return done.returncode, done.stdout.strip()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  """The metrics of every step of a run that nothing happened to."""
  model_dir = tmp_path_factory.mktemp("uninterrupted")
  assert driver.train(model_dir).step == driver.TOTAL
  rows = read(model_dir)
  assert [row["step"] for row in rows] == list(range(1, driver.TOTAL + 1))
  assert len({row["loss"] for row in rows}) == driver.TOTAL
  return rows


@pytest.mark.slow  # tests/e2e/test_train.py interrupts one once
def test_a_run_that_is_killed_over_and_over_has_the_losses_of_one_that_is_not(
  tmp_path, uninterrupted
):
  newest = lambda: int(checkpoint.find(tmp_path).name)  # noqa: E731

  # Before the first checkpoint: nothing to go on from.
  assert command(tmp_path, "SIGKILL", 2)[0] == -signal.SIGKILL
  # In the middle of an asynchronous save: that step is there whole, or not at all.
  assert command(tmp_path, "SIGKILL", 6)[0] == -signal.SIGKILL
  assert newest() in (3, 6)
  assert all(row == wanted for row, wanted in zip(read(tmp_path), uninterrupted, strict=False))
  # SIGTERM and Ctrl-C save first. The signal comes after the actions of step 7, so one step more.
  assert command(tmp_path, "SIGTERM", 7) == (0, "stopped by SIGTERM after step 8")
  assert newest() == 8
  assert command(tmp_path, "SIGINT", 9) == (0, "stopped by SIGINT after step 10")
  assert newest() == 10
  assert command(tmp_path) == (0, f"stopped by None after step {driver.TOTAL}")

  assert read(tmp_path) == uninterrupted


def test_a_finished_run_is_not_trained_again(tmp_path, uninterrupted):
  driver.train(tmp_path)
  assert driver.train(tmp_path).step == driver.TOTAL
  assert read(tmp_path) == uninterrupted
