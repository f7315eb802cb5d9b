"""What names mean in files and on the command line, and how unknown ones are told."""

from __future__ import annotations

import re

import pytest

from mtm.config.names import Names
from tests.config.cases import BOTH, load, place, refused
from tests.fixtures import gin_roots


@pytest.mark.parametrize(
  "line, why",
  [
    ("gin_roots.trian.log = True", "has no 'trian'; did you mean 'train'?"),
    ("gin_root.train.log = True", "'gin_root' is not imported there; did you mean 'gin_roots'?"),
    ("gin_roots.train.lgo = True", "has no parameter 'lgo'; did you mean 'log'?"),
    ("gin_roots.Nothing.lgo = True", "tests.fixtures.gin_roots.Nothing has no parameter 'lgo'"),
    ("gin_roots.train.extra = @gin_roots.Decodre()", "did you mean 'Decoder'?"),
    ("gin_roots.train.extra = @gin_roots()", "it is a module"),
    ("gin_roots.train.extra = @gin_roots.NOT_CALLABLE()", "it is no function or class"),
    ("import tests.fixtures.gin_rotos", "did you mean 'gin_roots'?"),
    ("import nowhere_at_all", "there is no module 'nowhere_at_all'"),
    ("include 'base/dtaa.gin'", "did you mean 'base/data.gin'?"),
    ("gin_roots.train.extra = gpt", "gpt is not a value; a string needs quotes: 'gpt'"),
    ("gin_roots.train.extra = [1,", "unfinished statement"),
    ("gin_roots.train.extra 3", "expected ':' or '='"),
  ],
)
def test_what_is_unknown_is_told_with_place_and_nearest_name(write, line, why):
  file = write(f"\n{line}\n")
  said = refused(files=(*BOTH, file))
  line_number = place(file, line).rpartition(":")[2]
  assert re.match(rf"{re.escape(file)}:({line_number}|{int(line_number) + 1}): ", said), said
  assert why in said


def test_a_name_that_another_file_imports_is_not_known_here(tmp_path):
  file = tmp_path / "bare.gin"
  file.write_text("gin_roots.train.log = True\n")
  assert "add `from tests.fixtures import gin_roots`" in refused(files=(*BOTH, str(file)))


def test_a_module_that_fails_is_told_with_its_own_line(write, tmp_path, monkeypatch):
  (tmp_path / "failing_module.py").write_text("x = 1\nx.y\n")
  monkeypatch.syspath_prepend(str(tmp_path))
  said = refused(files=(*BOTH, write("import failing_module\n")))
  assert "importing failing_module failed: AttributeError" in said
  assert said.endswith("failing_module.py:2)")


@pytest.mark.parametrize(
  "name",
  ["gin_roots.Decoder.embed", "Decoder.embed", "tests.fixtures.gin_roots.Decoder.embed"],
)
def test_flags_may_shorten_what_the_files_name(name):
  assert load(f"{name}=4").call()["model"].embed == 4


def test_flags_may_refer_by_import_path_to_what_no_file_names():
  loaded = load("gin_roots.Decoder.activation=@math.sqrt")
  assert loaded.call()["model"].activation(4) == 2
  assert "from tests.fixtures import gin_roots\nimport math\n" in loaded.text


def test_a_shortened_name_that_means_two_things_is_unknown(write):
  file = write("""
import os
import posixpath
import ntpath
gin_roots.train.extra = [@posixpath.join, @ntpath.join]
""")
  said = refused("join.path='x'", files=(*BOTH, file))
  assert said.startswith("--gin.join.path='x': unknown name 'join'")
  assert load("posixpath.join.a='x'", files=(*BOTH, file)).call()["extra"][0]() == "x"


def test_one_function_under_two_names_is_one_configurable(tmp_path):
  file = tmp_path / "alias.gin"
  file.write_text("import tests.fixtures.gin_roots as other\nother.Decoder.embed = 4\n")
  loaded = load(files=(*BOTH, str(file)))
  assert loaded.call()["model"] == gin_roots.Decoder(2, 4, 0.1)


def test_a_function_that_is_defined_anew_is_found_anew(monkeypatch):
  load()

  def train(model, steps, directory, data, eval_data):
    return steps

  monkeypatch.setattr(gin_roots, "train", train)
  assert load().call() == 100


def test_parameters_that_python_cannot_tell_may_have_any_name():
  opaque = Names().of(range)
  assert opaque.open and not opaque.named
