"""Loading, calling, and asking for single macros."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtm import config
from mtm.errors import UserError
from tests.config.cases import GIN, load
from tests.fixtures import gin_roots


def test_loading_builds_nothing():
  assert load().text and gin_roots.BUILT == []


def test_configs_live_side_by_side():
  one, two = load(), load("TRAIN_STEPS=7")
  assert [one.call()["steps"], two.call()["steps"], one.call()["steps"]] == [100, 7, 100]


def test_the_value_of_one_macro_can_be_had_without_a_root():
  loaded = config.load(None, ["model.gin"], ["gin_roots.Decoder.layers=3"], [str(GIN)])
  assert loaded.value("MODEL") == gin_roots.Decoder(3, dropout=0.1)
  assert loaded.defines("MODEL") and not loaded.defines("MESH")


def test_the_value_of_a_macro_is_checked():
  loaded = config.load(None, ["model.gin"], ["gin_roots.Decoder.layers='3'"], [str(GIN)])
  with pytest.raises(UserError, match="layers must be int, not '3'"):
    loaded.value("MODEL")
  with pytest.raises(UserError, match="no macro 'MODLE'; did you mean 'MODEL'"):
    loaded.value("MODLE")


def test_some_arguments_of_the_root_can_be_had_without_calling_it():
  loaded = load("TRAIN_STEPS=7")
  found = loaded.arguments("model", "nobody")
  assert found.keys() == {"model"} and isinstance(found["model"], gin_roots.Decoder)
  with pytest.raises(ValueError, match="without a root"):
    config.load(None, ["model.gin"], (), [str(GIN)]).arguments("model")


def test_a_macro_that_must_be_given_is_lacking_until_it_is():
  files = ["model.gin", "run.gin"]
  assert config.load(None, files, (), [str(GIN)]).lacks("TRAIN_STEPS")
  told = config.load(None, files, ["TRAIN_STEPS=3"], [str(GIN)])
  assert not told.lacks("TRAIN_STEPS") and not told.lacks("NOBODY")


def test_without_a_root_there_is_nothing_to_call():
  with pytest.raises(ValueError, match="without a root"):
    config.load(None, ["model.gin"], (), [str(GIN)]).call()


def test_a_running_root_can_read_its_own_config(write):
  file = write("""
from mtm import config
gin_roots.asks:
  model = %MODEL
  ask = @config.current_text
""")
  loaded = config.load(gin_roots.asks, ["model.gin", file], (), [str(GIN)])
  whole, model = loaded.call()
  assert whole == loaded.text
  assert model == loaded.text_of("MODEL")
  assert "asks" in whole and "asks" not in model and "Decoder.layers = 2" in model
  assert config.load(None, [write_text(file, model)]).value("MODEL") == gin_roots.Decoder(2)
  assert config.current_text() == ""


def write_text(beside, text):
  path = Path(beside).with_name("written.gin")
  path.write_text(text)
  return str(path)


def test_a_failing_root_leaves_no_current_config(write):
  file = write("gin_roots.fails.steps = 1\n")
  with pytest.raises(RuntimeError):
    config.load(gin_roots.fails, [file]).call()
  assert config.current_text() == ""
