"""The resolved text: complete, minimal, and the same again when it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtm import config
from tests.config.cases import BOTH, GIN, load, with_gin
from tests.fixtures import gin_roots

EXPECTED = """\
from __gin__ import dynamic_registration

from tests.fixtures import gin_roots

BATCH_SIZE = 128
DROPOUT_RATE = 0.1
MODEL = @gin_roots.Decoder()
MODEL_DIR = '/tmp/x'
TASK_FEATURE_LENGTHS = {'inputs': 8, 'targets': 16}
TRAIN_STEPS = 100

gin_roots.Dataset.name = 'corpus'
gin_roots.Dataset.split = 'train'
gin_roots.Dataset.batch_size = %BATCH_SIZE
gin_roots.Dataset.lengths = %TASK_FEATURE_LENGTHS

train_eval/gin_roots.Dataset.split = 'validation'

gin_roots.Decoder.layers = 2
gin_roots.Decoder.embed = 8
gin_roots.Decoder.dropout = %DROPOUT_RATE

gin_roots.train.model = %MODEL
gin_roots.train.steps = %TRAIN_STEPS
gin_roots.train.directory = %MODEL_DIR
gin_roots.train.data = @train/gin_roots.Dataset()
gin_roots.train.eval_data = @train_eval/gin_roots.Dataset()
gin_roots.train.optimizer = None
gin_roots.train.actions = ()
gin_roots.train.sizes = (1, 2)
gin_roots.train.shape = (1, 2)
gin_roots.train.lengths = None
gin_roots.train.log = False
gin_roots.train.warmup = 0
gin_roots.train.size = None
gin_roots.train.seed = None
gin_roots.train.extra = None
"""


def reloaded(text, tmp_path, *bindings, root=gin_roots.train):
  path = tmp_path / "config.gin"
  path.write_text(text)
  return config.load(root, [str(path)], bindings)


def test_the_text_holds_all_that_is_used_and_the_literal_defaults():
  assert load().text == EXPECTED


@pytest.mark.parametrize("bindings", [(), ("gin_roots.train.extra=[%TRAIN_STEPS, 'x']",)])
def test_reading_the_text_gives_the_text_and_the_job(tmp_path, bindings):
  loaded = load(*bindings)
  again = reloaded(loaded.text, tmp_path)
  assert again.text == loaded.text
  assert again.call() == loaded.call()


def test_gin_makes_the_same_of_the_resolved_text():
  assert with_gin(load().text) == load().call()


def test_the_text_runs_again_with_other_macros(tmp_path):
  again = reloaded(load().text, tmp_path, "TRAIN_STEPS=7", "BATCH_SIZE=3")
  given = again.call()
  assert (given["steps"], given["data"].batch_size, given["eval_data"].batch_size) == (7, 3, 3)


def test_the_text_does_not_depend_on_the_order_of_files():
  assert load(files=BOTH[::-1]).text == load().text


def test_what_was_replaced_or_shadowed_is_left_out(write):
  file = write("""
gin_roots.Dataset.split = %NOBODY
NOBODY = 'x'
train/gin_roots.Dataset.split = 'test'
gin_roots.Decoder.layers = 9
""")
  text = load("gin_roots.Decoder.layers=4", files=(*BOTH, file)).text
  assert "NOBODY" not in text and "= 9" not in text
  assert "train/gin_roots.Dataset.split = 'test'" in text


def test_long_values_get_a_line_for_each_item(tmp_path):
  names = {f"a_rather_long_feature_name_{i}": i for i in range(5)}
  loaded = load(f"TASK_FEATURE_LENGTHS={names}")
  assert "TASK_FEATURE_LENGTHS = {\n  'a_rather_long_feature_name_0': 0,\n" in loaded.text
  assert max(map(len, loaded.text.splitlines())) <= 100
  assert reloaded(loaded.text, tmp_path).call() == loaded.call()


def test_functions_passed_on_get_no_defaults_written(write, tmp_path):
  file = write("gin_roots.Decoder.activation = @gin_roots.decayed\n")
  loaded = load(files=(*BOTH, file))
  assert "gin_roots.decayed." not in loaded.text
  again = reloaded(loaded.text, tmp_path)
  assert again.call()["model"].activation is gin_roots.decayed


def test_modules_of_one_name_get_names_of_their_own(tmp_path, monkeypatch):
  for package in ("first", "second"):
    folder = tmp_path / package
    folder.mkdir()
    (folder / "part.py").write_text(f"def f(x: int = 1) -> str:\n  return '{package}' * x\n")
  monkeypatch.syspath_prepend(str(tmp_path))
  path = tmp_path / "two.gin"
  path.write_text(
    "from first import part\nimport second.part as other\nfrom tests.fixtures import gin_roots\n"
    "gin_roots.train.extra = [@part.f(), @other.f()]\nother.f.x = 2\n"
  )
  loaded = load(files=(*BOTH, str(path)))
  assert "from first import part as first_part\n" in loaded.text
  assert "second_part.f.x = 2\n" in loaded.text
  again = reloaded(loaded.text, tmp_path)
  assert again.text == loaded.text
  assert again.call()["extra"] == ["first", "secondsecond"] == with_gin(loaded.text)["extra"]


def test_without_a_root_the_text_holds_all_that_was_said(tmp_path):
  loaded = config.load(None, ["family.gin"], (), [str(GIN)])
  assert "OBJECTIVE = @gin_roots.constant()\n" in loaded.text
  again = reloaded(loaded.text, tmp_path, root=None)
  assert again.text == loaded.text
  assert Path(tmp_path / "config.gin").read_text() == again.text
