"""A run that goes on reads what it read before; TensorFlow and SeqIO are not needed for it."""

import os
import subprocess
import sys

from mtm.training.metrics import read
from tests.e2e.conftest import ROOT, training


def test_a_run_goes_on_without_tensorflow(tmp_path):
  absent = tmp_path / "absent"
  absent.mkdir()
  for name in ("tensorflow", "seqio", "tensorflow_datasets"):
    (absent / f"{name}.py").write_text(f"raise ImportError('{name} was imported')\n")

  def train(steps, *path):
    flags = training(
      tmp_path / "run", MIXTURE_OR_TASK_NAME="stdlib_code", MIXTURE_OR_TASK_MODULE=None,
      TRAIN_STEPS=steps, EVAL_PERIOD=steps, **{"gpt2.gpt2.vocab": 4096},
    )  # fmt: skip
    return subprocess.run(
      [sys.executable, "-m", "mtm.cli", "train", *flags],
      env={**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(ROOT)])},
      cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip

  first = train(2)
  assert first.returncode == 0, first.stderr
  again = train(4, str(absent))
  assert again.returncode == 0, again.stderr
  rows = read(tmp_path / "run")
  assert [row["step"] for row in rows if row["split"] == "train"] == [1, 2, 3, 4]
  assert [row["step"] for row in rows if row["split"] == "validation"] == [2, 4]
