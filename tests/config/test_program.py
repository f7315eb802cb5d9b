"""Which statement wins, and which macros and parameters exist."""

from __future__ import annotations

from mtm import config
from tests.config.cases import BOTH, GIN, load, place, refused
from tests.fixtures import gin_roots


def test_required_never_replaces_a_value(write):
  file = write("TRAIN_STEPS = 5\nMODEL_DIR = 'd'\n")
  for files in ((file, *BOTH), (*BOTH, file)):
    assert config.load(gin_roots.train, files, (), [str(GIN)]).call()["steps"] == 5


def test_an_undefined_macro_is_told_with_the_nearest(write):
  file = write("gin_roots.train.warmup = %TRAIN_STEP\n")
  at = place(file, "gin_roots.train.warmup = %TRAIN_STEP")
  assert refused(files=(*BOTH, file)).startswith(
    f"{at}: nothing defines the macro 'TRAIN_STEP'; did you mean 'TRAIN_STEPS'?"
  )


def test_a_macro_that_a_flag_defines_is_defined(write):
  file = write("gin_roots.train.warmup = %WARMUP\n")
  assert load("WARMUP=3", files=(*BOTH, file)).call()["warmup"] == 3
