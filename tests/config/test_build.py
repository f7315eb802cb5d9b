"""What a checked config makes; gin itself is the judge of scopes."""

from __future__ import annotations

from mtm import config
from tests.config.cases import BOTH, HEADER, load, with_gin
from tests.fixtures import gin_roots


def test_the_root_is_called_with_what_the_files_bind():
  given = load().call()
  assert gin_roots.BUILT == ["Decoder", "train"]
  assert given["model"] == gin_roots.Decoder(2, dropout=0.1)
  assert given["steps"] == 100 and given["directory"] == "/tmp/x"
  lengths = {"inputs": 8, "targets": 16}
  assert given["data"] == gin_roots.Dataset("corpus", "train", 128, lengths)
  assert given["eval_data"] == gin_roots.Dataset("corpus", "validation", 128, lengths)


SCOPES = """
gin_roots.train:
  model = %MODEL
  steps = 1
  directory = 'd'
  data = @a/b/gin_roots.Dataset()
  eval_data = %EVAL
  actions = [@c/gin_roots.decayed, @gin_roots.constant()]
MODEL = @gin_roots.Decoder()
MODEL/gin_roots.Decoder.layers = 5
EVAL = @gin_roots.Dataset()
gin_roots.Dataset.name = 'n'
gin_roots.Dataset.split = 'general'
a/gin_roots.Dataset.split = 'of a'
a/b/gin_roots.Dataset.batch_size = 7
EVAL/gin_roots.Dataset.batch_size = 9
c/gin_roots.decayed.rate = 1.0
gin_roots.decayed.floor = 2.0
"""


def test_scopes_mean_what_they_mean_to_gin(write):
  def use(given):
    return given | {"actions": [given["actions"][0](3), given["actions"][1](3)]}

  ours = use(config.load(gin_roots.train, [write(SCOPES)]).call())
  assert ours == with_gin(HEADER + SCOPES, use)
  assert ours["data"] == gin_roots.Dataset("n", "of a", 7)
  assert ours["actions"][0] == 2.25


def test_a_function_without_bindings_is_passed_on_as_it_is(write):
  file = write("gin_roots.Decoder.activation = @gin_roots.decayed\n")
  assert load(files=(*BOTH, file)).call()["model"].activation is gin_roots.decayed


def test_what_a_caller_gives_goes_before_the_bindings_of_a_function_passed_on(write):
  file = write("gin_roots.Decoder.activation = @gin_roots.decayed\ngin_roots.decayed.rate = 1.0\n")
  decayed = load(files=(*BOTH, file)).call()["model"].activation
  assert decayed(1) == 0.5
  assert decayed(1, 4.0) == 2.0
  assert decayed(1, floor=1.0) == 1.5


def test_containers_are_made_anew_at_each_call():
  loaded = load()
  loaded.call()["data"].lengths["inputs"] = 0
  assert loaded.call()["data"].lengths["inputs"] == 8


def test_a_named_constructor_can_be_called(write):
  file = write("""
gin_roots.train.optimizer = @gin_roots.Optimizer.momentum()
gin_roots.Optimizer.momentum.learning_rate = 1
""")
  loaded = load(files=(*BOTH, file))
  assert (loaded.call()["optimizer"].kind, loaded.call()["optimizer"].decay) == ("sgd", 0.9)
  assert "Optimizer.momentum.beta = 0.9" in loaded.text


def test_a_function_may_be_passed_to_itself(write):
  file = write(
    "gin_roots.train.extra = @gin_roots.circle\ngin_roots.circle.inner = @gin_roots.circle\n"
  )
  assert callable(load(files=(*BOTH, file)).call()["extra"]())
