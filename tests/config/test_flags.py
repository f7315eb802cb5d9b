"""The command line: flags, exit codes; a bad config ends before JAX or TensorFlow begin."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mtm import config
from mtm.config import flags
from mtm.errors import UserError
from tests.config.cases import GIN
from tests.fixtures import gin_roots

FILES = ["--gin_file=model.gin", "--gin_file=run.gin", f"--gin_search_paths={GIN}"]
GIVEN = ["--gin.TRAIN_STEPS=3", "--gin.MODEL_DIR=/tmp/x"]


def test_flags_are_parsed_in_both_spellings():
  parsed = flags.parse(
    ["--gin_file=a", "--gin_file", "b", "--gin.X=1", "--gin_search_paths=p,q", "--help"]
    + ["--tfds_data_dir", "d", "--gin.s/f.p={'a': 1}"]
  )
  assert parsed == flags.Flags(["a", "b"], ["X=1", "s/f.p={'a': 1}"], ["p", "q"], "d", True)


@pytest.mark.parametrize(
  "argv, message",
  [
    (["--gin_flie=a"], "unknown flag --gin_flie; did you mean '--gin_file'?"),
    (["--TRAIN_STEPS=3"], "unknown flag --TRAIN_STEPS; did you mean --gin.TRAIN_STEPS=3?"),
    (["-TRAIN_STEPS=3"], "unknown flag -TRAIN_STEPS; did you mean --gin.TRAIN_STEPS=3?"),
    (["a.gin"], "unexpected argument 'a.gin'; did you mean --gin_file=a.gin?"),
    (["a"], "unexpected argument 'a'; everything is given by flags, see --help"),
    (["--gin_file"], "--gin_file needs a value: --gin_file=..."),
  ],
)
def test_flags_that_are_none_are_told(argv, message):
  with pytest.raises(UserError) as e:
    flags.parse(argv)
  assert str(e.value) == message


def test_bindings_for_programs_with_flags_of_their_own():
  assert config.bindings_of(["--gin.A=1", "--gin.b/f.p=2"]) == ["A=1", "b/f.p=2"]
  with pytest.raises(UserError, match="only --gin.NAME=VALUE may stand here"):
    config.bindings_of(["--gin.A=1", "--gin_file=x"])
  with pytest.raises(UserError, match="unexpected argument 'x'"):
    config.bindings_of(["x"])


def test_a_run_ends_with_0():
  assert config.main(gin_roots.train, [*FILES, *GIVEN]) == 0
  assert gin_roots.BUILT == ["Decoder", "train"]


def test_a_user_error_is_one_line_and_exit_code_1(capsys):
  assert config.main(gin_roots.train, [*FILES, "--gin.TRAIN_STEPS=x", GIVEN[1]]) == 1
  out, err = capsys.readouterr()
  assert err.startswith("error: --gin.TRAIN_STEPS=x: TRAIN_STEPS must be int, not 'x'")
  assert err.count("\n") == 1 and out == "" and gin_roots.BUILT == []


def test_ctrl_c_ends_with_130(write):
  file = write("gin_roots.interrupted.steps = 1\n")
  assert config.main(gin_roots.interrupted, [f"--gin_file={file}"]) == 130


def test_other_errors_keep_their_traceback(write):
  file = write("gin_roots.fails.steps = 1\n")
  with pytest.raises(RuntimeError, match="^after 1 steps$"):
    config.main(gin_roots.fails, [f"--gin_file={file}"])


def test_without_a_file_the_shipped_runs_are_named(capsys):
  assert config.main(gin_roots.train, []) == 1
  assert "error: no gin file: give --gin_file=FILE, such as " in capsys.readouterr().err


def test_help_lists_flags_and_the_macros_of_the_files(capsys):
  assert config.main(gin_roots.train, [*FILES, "--help"]) == 0
  out = capsys.readouterr().out
  assert out.startswith("Returns what it was given.\n")
  assert "  --gin_file " in out
  assert "  TRAIN_STEPS = REQUIRED  (int; tests/fixtures/gin/run.gin:7)\n" in out
  assert "  BATCH_SIZE = 128  (int; tests/fixtures/gin/base/data.gin:5)\n" in out
  assert gin_roots.BUILT == []


def test_help_without_files(capsys):
  assert config.main(gin_roots.train, ["--help"]) == 0
  assert "Shipped runs:" in capsys.readouterr().out


def test_the_data_directory_is_handed_to_tensorflow_datasets(monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", "before")
  assert config.main(gin_roots.train, [*FILES, *GIVEN, "--tfds_data_dir=/data"]) == 0
  assert os.environ["TFDS_DATA_DIR"] == "/data"


def test_a_module_run_as_a_program_is_the_one_that_gin_files_import():
  program = [sys.executable, "-m", "tests.fixtures.gin_roots"]
  done = subprocess.run([*program, *FILES, *GIVEN], capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (0, "")


PROGRAM = """
import sys
from mtm import train
codes = [train.main([*sys.argv[1:3], flag]) for flag in sys.argv[3:]]
from jax._src import xla_bridge
print(codes, dict(xla_bridge._backends), "tensorflow" in sys.modules, "seqio" in sys.modules)
"""


def test_a_bad_config_ends_before_a_device_or_tensorflow_is_touched():
  files = ["--gin_file=families/gpt2/tiny.gin", "--gin_file=runs/pretrain.gin"]
  wrong = ["--gin.TRAIN_STEP=1", "--gin.TRAIN_STEPS=x", "--gin.gpt2.layer=1", "--gin.BATCH_SIZE=2"]
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM, *files, *wrong], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == "[1, 1, 1, 1] {} False False"
  errors = done.stderr.splitlines()
  assert len(errors) == 4 and all(line.startswith("error: ") for line in errors)
