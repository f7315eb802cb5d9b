"""The end of a run: the figures are the file's, the paths exist, and the commands can be typed."""

from __future__ import annotations

import gzip
import lzma
import shlex
import types
from pathlib import Path

import pytest

from mtm import config
from mtm.config.flags import parse
from mtm.programs import ending, history
from mtm.programs.history import History
from mtm.training.loop import Clock, Run
from mtm.training.metrics import MetricsWriter
from tests.training import tiny

TEXT = b"def f(x):\n  return x\n" * 20
GIN = Path(config.__file__).parents[1] / "gin"


@pytest.fixture
def run(tmp_path):
  """A run at its end, with two held-out splits."""
  with MetricsWriter(tmp_path, tensorboard=False) as writer:
    writer.write(1, "train", {"loss": 9.0})
    writer.write(1, "validation", {"loss": 4.0, "bits_per_byte": 3.0})
    writer.write(6, "validation", {"loss": 2.0, "bits_per_byte": 1.5})
    writer.write(6, "test", {"loss": 2.5})
    writer.write(6, "squad", {"f1": 0.5})
  clock = Clock(waited=5.0, busy=20.0, compiled=3.0, tokens=60.0)
  return Run(
    tiny.trainer(), None, None, 6, 12, clock=clock, tokens_before=40.0, stop="SIGTERM",
    model_dir=tmp_path,
  )  # fmt: skip


def test_the_figures_are_the_newest_of_every_split(run):
  told = ending.summary(run, History("", {"ledger": {"compilation": 2.0}}), None)
  assert (told.step, told.total, told.stopped, told.tokens) == (6, 12, "SIGTERM", 100.0)
  assert told.losses == {"validation": 2.0, "test": 2.5}
  assert told.bits_per_byte == {"validation": {"this model": 1.5}}
  assert told.parameters == history.parameter_count(run)
  assert told.ledger == {"compilation": 5.0, "training steps": 20.0}
  assert told.waiting == 0.25


def test_compressors_get_the_same_text_and_the_model_comes_first(run):
  told = ending.summary(run, History("", {}), lambda: TEXT)
  assert list(told.bits_per_byte["validation"].items()) == [
    ("this model", 1.5),
    ("gzip -9", 8 * len(gzip.compress(TEXT, 9)) / len(TEXT)),
    ("xz -9", 8 * len(lzma.compress(TEXT, preset=9)) / len(TEXT)),
  ]


def test_a_run_that_took_no_step_waited_for_nothing(tmp_path):
  told = ending.summary(
    Run(tiny.trainer(), None, None, 12, 12, model_dir=tmp_path), History("", {}), None
  )
  assert told.waiting == 0.0 and told.losses == {} and told.paths == {}


def test_paths_are_those_that_exist(run, tmp_path):
  (tmp_path / "checkpoints").mkdir()
  told = ending.summary(run, History("", {}), None)
  assert told.paths == {
    "metrics": str(tmp_path / "metrics.jsonl"), "checkpoints": str(tmp_path / "checkpoints")
  }  # fmt: skip


def macros(bindings, *names):
  """What gin reads in the bindings."""
  loaded = config.load(None, [], bindings)
  return [loaded.value(name) for name in names]


@pytest.mark.parametrize("home", ["mtm_runs/quickstart", "2nd/größer", "/tmp/a folder/it's mine"])
def test_commands_are_typed_as_they_stand_whatever_the_directory_is_named(run, home):
  run.model_dir = Path(home)
  commands = ending.commands(run)
  verbs = {}
  for command in commands.values():
    words = shlex.split(command.rpartition(" | ")[2])
    verbs[words[1]] = words[2:]
  assert verbs["inspect"] == [home]
  train = parse(verbs["train"])
  assert train.files == [f"{home}/config.gin"]
  assert macros(train.bindings, "TRAIN_STEPS", "MODEL_DIR") == [24, f"{home}_longer"]
  infer = parse(verbs["infer"])
  assert infer.files == [f"{home}/model.gin", "runs/generate.gin"]
  assert macros(infer.bindings, "CHECKPOINT_PATH") == [home]
  assert (GIN / infer.files[1]).is_file()


class TestTheCommandItself:
  """`mtm` where the PATH has it, else by its path beside the interpreter."""

  @pytest.fixture
  def beside(self, tmp_path, monkeypatch):
    """An environment with a command in it, which is not on the PATH."""
    scripts = tmp_path / "my work" / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "mtm").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ending, "sys", types.SimpleNamespace(executable=str(scripts / "python")))
    return scripts / "mtm"

  def inspect(self, run):
    return shlex.split(ending.commands(run)["see what was learned, tensor by tensor"])[0]

  def test_by_its_name(self, run, beside, monkeypatch):
    monkeypatch.setenv("PATH", str(beside.parent))
    assert self.inspect(run) == "mtm"

  def test_by_the_shortest_path_that_works_from_here(self, run, beside, monkeypatch):
    monkeypatch.chdir(beside.parents[2])
    assert self.inspect(run) == ".venv/bin/mtm"

  def test_by_its_whole_path_from_elsewhere(self, run, beside, monkeypatch):
    (beside.parents[3] / "elsewhere").mkdir()
    monkeypatch.chdir(beside.parents[3] / "elsewhere")
    assert self.inspect(run) == str(beside)

  def test_by_its_name_where_nobody_knows(self, run, beside, monkeypatch):
    beside.unlink()
    assert self.inspect(run) == "mtm"
