"""Bad input to `mtm train`: a sentence with the culprit and the fix, exit code 1, nothing lost."""

import json
import shutil
import subprocess
import sys

import pytest

from mtm import cli
from tests.e2e.conftest import ROOT, training


def refused(capsys, flags, *, loaded_devices=None):
  """The one line that `mtm train` prints for these flags."""
  capsys.readouterr()
  assert cli.main(["train", *flags]) == 1
  lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
  assert len(lines) == 1
  return lines[0]


def files(directory):
  """Path → content of everything below."""
  return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
  ("changes", "told"),
  [
    ({"MIXTURE_OR_TASK_NAME": "my_lynes"}, ["my_lynes", "my_lines"]),
    ({"MIXTURE_OR_TASK_MODULE": "tests.e2e.my_taks"}, ["tests.e2e.my_taks"]),
    ({"TASK_FEATURE_LENGTHS": {"targets": 200}}, ["200", "96", "TASK_FEATURE_LENGTHS"]),
    ({"TASK_FEATURE_LENGTHS": {"target": 48}}, ["target", "targets"]),
    ({"gpt2.gpt2.vocab": 100}, ["my_mix", "259", "100"]),
    ({"mesh.mesh.data": 3}, ["data", "3", "8"]),
    ({"mesh.mesh.platform": "tpu"}, ["tpu", "cpu"]),
    ({"train/pipeline.Dataset.split": "training"}, ["training", "train"]),
  ],
  ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_told_before_anything_is_written(
  environment, tmp_path, capsys, changes, told
):
  line = refused(capsys, training(tmp_path / "run", **changes))
  assert all(word in line for word in told), line
  assert not (tmp_path / "run" / "checkpoints").exists() or not any(
    (tmp_path / "run" / "checkpoints").iterdir()
  )


def test_a_feature_that_the_objective_needs_and_the_task_lacks(environment, tmp_path, capsys):
  lengths = {"inputs": 16, "targets": 16}
  flags = training(tmp_path, MIXTURE_OR_TASK_NAME="my_lines", TASK_FEATURE_LENGTHS=lengths)
  flags += ["--gin_file=objectives/seq2seq.gin", "--gin_file=families/t5_1_1/tiny.gin"]
  flags = [flag for flag in flags if "gpt2" not in flag]
  line = refused(capsys, flags)
  assert "my_lines" in line and "inputs" in line, line


@pytest.mark.parametrize(
  ("content", "told"),
  [
    (b"", ["my_lines", "no example"]),
    (b"fine\n\xff\xfe broken\n", ["train.txt", "2", "UTF-8"]),
  ],
  ids=["empty", "not UTF-8"],
)
def test_a_bad_text_file(environment, data, tmp_path, monkeypatch, capsys, content, told):
  path = data / "train.txt"
  kept = path.read_bytes()
  monkeypatch.setenv("MTM_CACHE", str(tmp_path / "cache"))
  try:
    path.write_bytes(content)
    line = refused(capsys, training(tmp_path / "run", MIXTURE_OR_TASK_NAME="my_lines"))
  finally:
    path.write_bytes(kept)
  assert all(word in line for word in told), line


def test_a_corrupt_record(environment, data, tmp_path, monkeypatch, capsys):
  path = data / "train.jsonl"
  kept = path.read_bytes()
  monkeypatch.setenv("MTM_CACHE", str(tmp_path / "cache"))
  try:
    path.write_bytes(kept + b'{"q": "a", "a": \n')
    line = refused(capsys, training(tmp_path / "run", MIXTURE_OR_TASK_NAME="my_answers"))
  finally:
    path.write_bytes(kept)
  assert "train.jsonl" in line and str(len(kept.splitlines()) + 1) in line, line


def test_a_damaged_checkpoint_is_told_and_left_as_it_is(trained, tmp_path, capsys):
  home = tmp_path / "run"
  shutil.copytree(trained, home)
  step = sorted((home / "checkpoints").iterdir(), key=lambda p: int(p.name))[-1]
  for path in (step / "params").rglob("*"):
    if path.is_file() and path.stat().st_size > 1000:
      path.write_bytes(path.read_bytes()[:-500])
  before = files(home / "checkpoints")
  line = refused(capsys, training(home, TRAIN_STEPS=40))
  assert str(step) in line and "damaged" in line and "remove that step" in line, line
  assert files(home / "checkpoints") == before


def test_a_checkpoint_of_another_model_is_told_and_left_as_it_is(trained, tmp_path, capsys):
  home = tmp_path / "run"
  shutil.copytree(trained, home)
  before = files(home)
  line = refused(capsys, training(home, TRAIN_STEPS=40, **{"gpt2.gpt2.embed": 64}))
  assert "another model" in line and "config.gin" in line or "gin files" in line, line
  assert files(home) == before


def test_a_directory_of_somebody_else_is_not_written_into(environment, tmp_path, capsys):
  (tmp_path / "checkpoints").mkdir()
  (tmp_path / "checkpoints" / "thesis.tex").write_text("years of work")
  line = refused(capsys, training(tmp_path))
  assert "thesis.tex" in line and "MODEL_DIR" in line, line
  assert files(tmp_path) == {tmp_path / "checkpoints" / "thesis.tex": b"years of work"}


def test_an_initial_checkpoint_that_is_none(environment, tmp_path, capsys):
  flags = training(tmp_path / "run", INITIAL_CHECKPOINT_PATH=str(tmp_path))
  flags = [flag.replace("pretrain", "finetune") for flag in flags]
  line = refused(capsys, [*flags, "--gin.train.train.extras=[]"])
  assert str(tmp_path) in line and "checkpoints/<step>" in line, line


def test_a_disk_that_fills_up_keeps_the_checkpoint_before(trained, environment, tmp_path):
  home = tmp_path / "run"
  shutil.copytree(trained, home)
  steps = {path.name: files(path) for path in (home / "checkpoints").iterdir()}
  newest = str(max(map(int, steps)))
  largest = max(len(content) for content in steps[newest].values())

  # No file can grow beyond it (in KiB): the nearest to a full disk without a disk.
  limited = ["bash", "-c", 'ulimit -f "$0" && exec "$@"', str(largest // 2048)]
  command = [sys.executable, "-m", "mtm.train", *training(home, TRAIN_STEPS=26, EVAL_PERIOD=100)]
  done = subprocess.run(
    [*limited, *command], cwd=ROOT, env={**environment, "JAX_ENABLE_COMPILATION_CACHE": "0"},
    capture_output=True, text=True, timeout=300,
  )  # fmt: skip
  lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
  assert done.returncode == 1 and len(lines) == 1, done.stderr[-2000:]
  assert "full" in lines[0] and "free some space" in lines[0], lines
  assert files(home / "checkpoints" / newest) == {
    path: content for path, content in steps[newest].items()
  }
  rows = (home / "metrics.jsonl").read_text().splitlines()
  assert all(json.loads(row) for row in rows)
