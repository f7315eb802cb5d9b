"""Which values fit which annotations, seen through whole configs."""

from __future__ import annotations

import pytest

from tests.config.cases import BOTH, in_fixture, load, place, refused


@pytest.mark.parametrize(
  "binding, expected",
  [
    ("steps = '100'", "must be int, not '100'"),
    ("steps = 1.5", "must be int, not 1.5"),
    ("steps = True", "must be int, not True"),
    ("log = 1", "must be bool, not 1"),
    ("directory = 3", "must be str, not 3; write '3'"),
    ("sizes = [1, 'b']", "sizes[1] must be int, not 'b'"),
    ("sizes = 'ab'", "must be Sequence[int], not 'ab'"),
    ("sizes = 3", "must be Sequence[int], not 3"),
    ("shape = (1, 2, 3)", "must be tuple[int, int], not (1, 2, 3)"),
    ("shape = [1, 2]", "must be tuple[int, int], not [1, 2]"),
    ("lengths = {'a': 'b'}", "lengths['a'] must be int, not 'b'"),
    ("lengths = {1: 1}", "lengths key 1 must be str, not 1"),
    ("warmup = 'x'", "must be Steps, not 'x'"),
    ("size = (1, 2)", "must be Size | None, not (1, 2)"),
    ("seed = 'x'", "must be int, not 'x'"),
    ("model = 'gpt2'", "must be Model, not 'gpt2'; a reference starts with @"),
    ("model = @gin_roots.Decoder", "not @gin_roots.Decoder; add () to call it"),
    ("model = @gin_roots.Dataset()", "and this call returns Dataset"),
    ("size = @gin_roots.Decoder()", "must be Size | None, not @gin_roots.Decoder()"),
    ("actions = [@gin_roots.size()]", "leave out () to pass it on"),
    ("actions = [1]", "actions[0] must be Callable"),
  ],
)
def test_a_value_that_does_not_fit_is_told_with_the_expected_type(write, binding, expected):
  file = write(f"\ngin_roots.train.{binding}\n")
  said = refused(files=(*BOTH, file), given=())
  assert said.startswith(place(file, f"gin_roots.train.{binding}") + ": gin_roots.train.")
  assert expected in said


@pytest.mark.parametrize(
  "binding",
  [
    "seed = None",  # its default, whatever the annotation says
    "log = False",
    "sizes = [1, 2]",
    "sizes = (1,)",
    "sizes = []",
    "shape = (3, 4)",
    "lengths = {}",
    "lengths = None",
    "warmup = 3",
    "size = None",
    "size = @gin_roots.size()",
    "size = @gin_roots.circle()",  # returns Any
    "actions = [@gin_roots.constant, @gin_roots.constant(), @gin_roots.Decoder]",
    "extra = {'a': [@gin_roots.size(), (1, 'b')]}",
    "extra = @gin_roots.anything()",
  ],
)
def test_a_value_that_fits_is_accepted(write, binding):
  text = f"gin_roots.train.{binding}\n"
  if "Decoder" in binding:
    text += "gin_roots.Decoder.embed = 4\n"
  load(files=(*BOTH, write(text))).call()


@pytest.mark.parametrize(
  "binding, expected",
  [
    ("learning_rate = 1", None),  # an int is a float
    ("learning_rate = @gin_roots.constant()", None),
    ("learning_rate = @gin_roots.decayed", None),  # calls as the protocol does
    ("learning_rate = True", "must be Scheduler | float, not True"),
    ("learning_rate = 'x'", "must be Scheduler | float, not 'x'"),
    ("learning_rate = @gin_roots.Dataset()", "and this call returns Dataset"),
    ("kind = 'sgd'", None),
    ("kind = 'adm'", "must be Literal['adam', 'sgd'], not 'adm'; did you mean 'adam'?"),
  ],
)
def test_protocols_and_literals(write, binding, expected):
  text = "gin_roots.train.optimizer = @gin_roots.Optimizer()\n"
  text += "" if "learning_rate" in binding else "gin_roots.Optimizer.learning_rate = 0.1\n"
  file = write(f"{text}gin_roots.Optimizer.{binding}\n")
  if expected is None:
    load(files=(*BOTH, file)).call()
  else:
    assert expected in refused(files=(*BOTH, file))


def test_a_macro_is_checked_wherever_it_goes_and_told_at_its_definition(write):
  file = write("BATCH_SIZE = 'big'\n")
  used = in_fixture("base/data.gin", "batch_size = %BATCH_SIZE")
  at = place(file, "BATCH_SIZE = 'big'")
  assert refused(files=(*BOTH, file)) == (
    f"{at}: BATCH_SIZE must be int, not 'big' (for gin_roots.Dataset.batch_size, {used})"
  )


def test_feature_lengths_are_checked_inside():
  said = refused("TASK_FEATURE_LENGTHS={'inputs': 8, 'targets': 'long'}")
  assert "TASK_FEATURE_LENGTHS['targets'] must be int, not 'long'" in said


def test_a_parameter_without_usable_annotation_takes_anything(write):
  file = write("""
gin_roots.train.extra = @gin_roots.anything()
gin_roots.anything:
  value = [1]
  other = 'x'
  unheard_of = 3
""")
  assert load(files=(*BOTH, file)).call()["extra"] == ([1], "x", {"unheard_of": 3})
