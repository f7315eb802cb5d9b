"""What is unused, missing or needs itself."""

from __future__ import annotations

import pytest

from mtm import config
from mtm.errors import UserError
from tests.config.cases import BOTH, GIN, in_fixture, load, place, refused
from tests.fixtures import gin_roots


def test_missing_values_are_told_together_with_their_types_and_flags():
  with pytest.raises(UserError) as e:
    config.load(gin_roots.train, BOTH, (), [str(GIN)])
  steps, directory = (
    in_fixture("run.gin", line) for line in ("steps = %TRAIN_STEPS", "directory = %MODEL_DIR")
  )
  assert str(e.value) == (
    f"TRAIN_STEPS (int; {steps} needs it), MODEL_DIR (str; {directory} needs it) are missing:"
    " give --gin.TRAIN_STEPS=... --gin.MODEL_DIR=..."
  )


def test_a_parameter_without_default_is_missing(write):
  file = write("MODEL = @gin_roots.Decoder()\n")
  said = refused(files=(file, "run.gin"))
  assert (
    said == "gin_roots.Decoder.layers (int) is missing: give --gin.gin_roots.Decoder.layers=..."
  )


def test_a_function_passed_on_may_lack_arguments(write):
  load(files=(*BOTH, write("gin_roots.train.actions = [@gin_roots.decayed]\n")))


def test_required_inside_a_container_is_missing(write):
  said = refused(files=(*BOTH, write("gin_roots.train.sizes = [1, %gin.REQUIRED]\n")))
  assert said.startswith("gin_roots.train.sizes (int; ") and "is missing" in said


def test_a_macro_that_nothing_uses_is_told_with_the_nearest():
  with pytest.raises(UserError) as e:
    config.load(gin_roots.train, BOTH, ["TRAIN_STEP=3"], [str(GIN)])
  assert str(e.value) == (
    "--gin.TRAIN_STEP=3: this run uses no macro TRAIN_STEP; did you mean 'TRAIN_STEPS'?"
  )


def test_dropout_for_a_model_without_dropout_is_refused(write):
  file = write("MODEL = @gin_roots.Recurrent()\n")
  said = refused("DROPOUT_RATE=0.1", files=(file, "run.gin"))
  assert said.startswith("--gin.DROPOUT_RATE=0.1: this run uses no macro DROPOUT_RATE")


def test_a_binding_of_what_is_not_called_is_refused(write):
  file = write("gin_roots.Recurrent.layers = 3\n")
  at = place(file, "gin_roots.Recurrent.layers = 3")
  said = refused(files=(*BOTH, file))
  assert said.startswith(f"{at}: gin_roots.Recurrent.layers = 3: this run does not call")


def test_a_binding_in_a_scope_that_is_not_entered_is_refused(write):
  file = write("trian/gin_roots.Dataset.split = 'x'\n")
  said = refused(files=(*BOTH, file))
  assert "is not called in scope 'trian'; did you mean 'train'?" in said


def test_a_narrower_scope_than_the_call_is_refused(write):
  file = write("train/more/gin_roots.Dataset.split = 'x'\n")
  assert "is not called in scope 'train/more'" in refused(files=(*BOTH, file))


def test_what_a_later_file_replaces_may_stay_unused(write):
  file = write("include 'model.gin'\nMODEL = @gin_roots.Recurrent()\n")
  assert load(files=(file, "run.gin")).call()["model"] == gin_roots.Recurrent()
  assert load("gin_roots.Decoder.dropout=0.5").call()["model"].dropout == 0.5  # not DROPOUT_RATE


def test_saying_something_about_the_replaced_part_is_refused(write):
  later = write("gin_roots.Decoder.embed = 3\n", "later.gin")
  files = (write("include 'model.gin'\nMODEL = @gin_roots.Recurrent()\n"), "run.gin")
  assert "does not call tests.fixtures.gin_roots.Decoder" in refused(files=(*files, later))
  said = refused("gin_roots.Decoder.embed=3", files=files)
  assert said.startswith("--gin.gin_roots.Decoder.embed=3: ")


def test_a_file_given_in_vain_is_refused(write):
  model = write("MODEL = @gin_roots.Recurrent()\n")
  said = refused(files=(model, *BOTH))
  assert said == f"--gin_file={model}: later files replace all that it says; give it after them"


def test_what_shipped_files_say_beyond_need_is_forgiven_but_not_to_the_user(monkeypatch):
  files = ("family.gin", "run.gin")
  assert "this run uses no macro OBJECTIVE" in refused(files=files)
  monkeypatch.setattr("mtm.config.source.SHIPPED", GIN.resolve())
  assert "OBJECTIVE" not in load(files=files).text
  said = refused("OBJECTIVE=3", files=files)
  assert said.startswith("--gin.OBJECTIVE=3: this run uses no macro OBJECTIVE")
  with pytest.raises(UserError, match="--gin_file=model.gin: this run uses nothing of it"):
    config.load(gin_roots.constant, ["model.gin"])


def test_circles_are_refused(write):
  macro = write("gin_roots.train.extra = %A\nA = %B\nB = [%A]\n", "macro.gin")
  assert "is defined by itself" in refused(files=(*BOTH, macro))
  call = write(
    "gin_roots.train.extra = @gin_roots.circle()\ngin_roots.circle.inner = @gin_roots.circle()\n"
  )
  assert "needs itself to be called" in refused(files=(*BOTH, call))
