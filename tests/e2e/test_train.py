"""`mtm train` from gin files: what it leaves behind, and that it goes on where it was stopped."""

import json
import signal
import subprocess
import sys
import time

import pytest

from mtm import cli, config
from mtm.training.checkpoint import Checkpoints, find, record
from mtm.training.metrics import read
from tests.e2e.conftest import ROOT, STEPS, training


def losses(model_dir):
  """split → step → the loss that the file holds."""
  rows = [json.loads(line) for line in (model_dir / "metrics.jsonl").read_text().splitlines()]
  found = {}
  for row in rows:
    assert row["step"] not in found.setdefault(row["split"], {})
    found[row["split"]][row["step"]] = row["loss"]
  return found


def test_a_run_leaves_everything_that_the_design_names(trained):
  names = {path.name for path in trained.iterdir()}
  assert names >= {
    "config.gin", "model.gin", "card.md", "metrics.jsonl", "plots", "checkpoints", "vocabulary"
  }  # fmt: skip
  assert any(name.startswith("events.out.tfevents.") for name in names)
  assert (trained / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")
  assert int(find(trained).name) == STEPS


def test_metrics_hold_every_step_in_order_and_the_evaluations(trained):
  found = losses(trained)
  assert list(found["train"]) == list(range(1, STEPS + 1))
  assert list(found["validation"]) == [12, 24]
  assert found["train"][STEPS] < found["train"][1]
  assert all("bits_per_byte" in row for row in read(trained) if row["split"] == "validation")


def test_the_card_tells_the_exact_proportions_of_the_mixture(trained):
  card = (trained / "card.md").read_text()
  assert all(f"`{task}`" in card for task in ("my_answers", "my_table", "my_lines"))
  assert record(trained)["tokens"] == read(trained)[-1]["tokens"]


def test_the_operative_config_runs_the_same_job_again(trained, tmp_path):
  again = ["train", f"--gin_file={trained / 'config.gin'}", f"--gin.MODEL_DIR={str(tmp_path)!r}"]
  assert cli.main(again) == 0
  assert losses(tmp_path) == losses(trained)
  assert config.load(None, [str(tmp_path / "config.gin")]).defines("MODEL")


def test_a_run_that_is_done_trains_no_more(trained, capsys):
  before = losses(trained)
  assert cli.main(["train", *training(trained)]) == 0
  assert losses(trained) == before
  assert f"Trained {STEPS} steps" in capsys.readouterr().out


@pytest.mark.parametrize(
  "number",
  [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL],
  ids=lambda n: n.name,
)
def test_interrupted_and_started_again_the_losses_are_bit_identical(
  trained, environment, tmp_path, number
):
  model_dir, log = tmp_path / "run", tmp_path / "log"
  command = [sys.executable, "-m", "mtm.train", *training(model_dir)]
  with open(log, "w") as out:
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    _wait(model_dir, process, log)
    process.send_signal(number)
    code = process.wait(300)
  saved = Checkpoints(model_dir).latest() or 0
  if number == signal.SIGTERM:
    assert code == 128 + signal.SIGTERM and 0 < saved < STEPS, log.read_text()[-2000:]
  else:
    assert code == -signal.SIGKILL
  assert cli.main(["train", *training(model_dir)]) == 0
  assert losses(model_dir) == losses(trained)


def _wait(model_dir, process, log):
  """Until a few steps were logged."""
  until = time.monotonic() + 300
  while len(read(model_dir) if model_dir.exists() else []) < 5:
    assert process.poll() is None and time.monotonic() < until, log.read_text()[-2000:]
    time.sleep(0.02)


def test_finetuning_counts_on_from_the_steps_of_its_checkpoint(trained, tmp_path):
  changes = {"INITIAL_CHECKPOINT_PATH": str(trained), "MIXTURE_OR_TASK_NAME": "my_lines"}
  flags = [f.replace("pretrain", "finetune") for f in training(tmp_path, **changes)]
  flags += [f"--gin.TRAIN_STEPS={STEPS + 2}", "--gin.train.train.extras=[]"]
  assert cli.main(["train", *flags]) == 0
  assert list(losses(tmp_path)["train"]) == [STEPS + 1, STEPS + 2]


def test_gradients_may_be_accumulated_and_the_mesh_changed_by_flags(trained, tmp_path):
  flags = training(tmp_path, MICROBATCHES=2, TRAIN_STEPS=2, DROPOUT_RATE=0.0)
  flags += ["--gin_file=mesh/fsdp_tensor.gin", "--gin.TENSOR_PARALLELISM=2"]
  assert cli.main(["train", *flags]) == 0
  plain = training(tmp_path / "plain", TRAIN_STEPS=2, DROPOUT_RATE=0.0)
  assert cli.main(["train", *plain]) == 0
  got, expected = losses(tmp_path)["train"], losses(tmp_path / "plain")["train"]
  # Sums of float32 in another order, on another mesh.
  assert got == {step: pytest.approx(loss, rel=1e-5) for step, loss in expected.items()}
