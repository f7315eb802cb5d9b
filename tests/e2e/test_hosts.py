"""Several processes that talk over the network train the quickstart as one process does, each on
its own shards of the data."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mtm.training import metrics

ROOT = Path(__file__).parents[2]
DEVICES = 4  # of all processes together
FLAGS = [
  "--gin_file=runs/quickstart.gin", "--gin.llama.llama.layers=1", "--gin.llama.llama.embed=32",
  "--gin.llama.llama.mlp=64", "--gin.llama.llama.heads=2", "--gin.schedules.linear.warmup_steps=1",
  "--gin.schedules.linear.total_steps=4", "--gin.TASK_FEATURE_LENGTHS={'targets': 32}",
  "--gin.EVAL_STEPS=1", "--gin.EVAL_PERIOD=2", "--gin.CHECKPOINT_PERIOD=2",
  "--gin.sampling.Sample.prompts=['a']", f"--gin.DATA_SHARDS={DEVICES}",
]  # fmt: skip


def train(home: Path, count: int, steps: int) -> None:
  """`mtm train` of the quickstart, made small, in `count` processes."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    address = f"--coordinator_address=127.0.0.1:{probe.getsockname()[1]}"
  flags = os.environ["XLA_FLAGS"].replace("device_count=8", f"device_count={DEVICES // count}")
  several = [address, f"--process_count={count}"] if count > 1 else []
  hosts = [
    subprocess.Popen(
      [
        sys.executable, "-m", "mtm.cli", "train", *FLAGS, f"--gin.MODEL_DIR='{home}'",
        f"--gin.TRAIN_STEPS={steps}", *several, *([f"--process_index={i}"] if several else []),
      ],
      cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags}, stdout=subprocess.PIPE,
      stderr=subprocess.PIPE, text=True,
    )
    for i in range(count)
  ]  # fmt: skip
  try:
    told = [process.communicate(timeout=1200) for process in hosts]
    assert [process.returncode for process in hosts] == [0] * count, told[0][1][-2000:]
    # The first process speaks for all.
    assert all("What to try next" not in out for out, _ in told[1:])
  finally:
    for process in hosts:
      process.kill()


def losses(home: Path) -> list[tuple[int, str, float]]:
  return [(row["step"], row["split"], row["loss"]) for row in metrics.read(home) if "loss" in row]


def same(one: list[tuple[int, str, float]], other: list[tuple[int, str, float]]) -> None:
  assert [row[:2] for row in one] == [row[:2] for row in other] and len(one) > 2
  # float32 sums over devices in another order.
  assert [row[2] for row in one] == pytest.approx([row[2] for row in other], rel=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """Four steps in one process."""
  home = tmp_path_factory.mktemp("alone") / "run"
  train(home, 1, 4)
  return home


@pytest.mark.slow
def test_a_run_goes_from_one_process_to_two_with_the_losses_of_one(alone, tmp_path):
  train(tmp_path / "run", 1, 2)
  train(tmp_path / "run", 2, 4)
  same(losses(tmp_path / "run"), losses(alone))


@pytest.mark.slow
def test_a_run_goes_from_four_processes_to_one_with_the_losses_of_one(alone, tmp_path):
  train(tmp_path / "run", 4, 2)
  train(tmp_path / "run", 1, 4)
  same(losses(tmp_path / "run"), losses(alone))
