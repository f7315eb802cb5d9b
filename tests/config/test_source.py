"""Reading: files, includes, flags, and the places of statements."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtm.config import source
from mtm.config.source import REQUIRED, Macro, Reference, read, render
from mtm.errors import UserError


@pytest.fixture
def files(tmp_path, monkeypatch):
  """Writes files below the working directory."""
  monkeypatch.chdir(tmp_path)

  def files(**texts):
    for name, text in texts.items():
      path = tmp_path / (name.replace("__", "/") + ".gin")
      path.parent.mkdir(exist_ok=True)
      path.write_text(text)

  return files


def said(*names, bindings=(), search_paths=()):
  statements = read([f"{n}.gin" for n in names], bindings, search_paths).statements
  return [(s.selector, s.value, s.place) for s in statements]


def refused(*names, **kwargs):
  with pytest.raises(UserError) as e:
    said(*names, **kwargs)
  return str(e.value)


def test_every_statement_knows_its_line(files):
  files(a="# a comment\nX = 1\n\nY = [\n  1,\n  2,\n]\nf.g:\n  p = %X\n  q = @s/h()\n")
  assert said("a") == [
    ("X", 1, "a.gin:2"),
    ("Y", [1, 2], "a.gin:4"),
    ("f.g", Macro("X"), "a.gin:9"),
    ("f.g", Reference(("s",), "h", True), "a.gin:10"),
  ]


def test_an_include_stands_where_it_is_written(files):
  files(a="X = 1\ninclude 'sub/b.gin'\nX = 3\n", sub__b="X = 2\n")
  assert said("a") == [("X", 1, "a.gin:1"), ("X", 2, "sub/b.gin:1"), ("X", 3, "a.gin:3")]


def test_an_include_is_not_read_twice_so_it_undoes_nothing(files):
  files(base="X = 0\n", a="include 'base.gin'\nX = 1\n", b="include 'base.gin'\nY = 2\n")
  assert [(n, v) for n, v, _ in said("a", "b")] == [("X", 0), ("X", 1), ("Y", 2)]


def test_a_file_that_is_asked_for_again_is_read_again(files):
  files(base="X = 0\n", a="include 'base.gin'\nX = 1\n")
  assert [v for _, v, _ in said("a", "base")] == [0, 1, 0]


def test_files_are_found_here_then_in_search_paths_then_beside_the_including_file(files):
  files(a="X = 'here'\n", more__a="X = 'there'\n", more__b="include 'c.gin'\n", more__c="X = 1\n")
  assert said("a", search_paths=["more"])[0][1] == "here"
  assert said("b", search_paths=["more"])[0][1] == 1
  assert said("more/b")[0][1] == 1
  os.remove("a.gin")
  assert said("a", search_paths=["more"])[0][1] == "there"


def test_shipped_files_are_found_from_anywhere(files, tmp_path, monkeypatch):
  (tmp_path / "installed" / "runs").mkdir(parents=True)
  (tmp_path / "installed" / "runs" / "x.gin").write_text("X = 1\n")
  monkeypatch.setattr(source, "SHIPPED", tmp_path / "installed")
  assert read(["runs/x.gin"], (), ()).statements[0].shipped
  message = refused("runs/y")
  assert "--gin_file=runs/y.gin: no file 'runs/y.gin' in " in message
  assert str(tmp_path) in message and message.endswith("; did you mean 'runs/x.gin'?")


def test_circular_includes_are_told(files):
  files(a="include 'b.gin'\n", b="X = 1\ninclude 'a.gin'\n", c="include 'c.gin'\n")
  assert refused("a") == "b.gin:2: a.gin includes itself, by way of b.gin"
  assert refused("c") == "c.gin:1: c.gin includes itself"


def test_a_missing_include_is_told_at_its_line(files):
  files(a="\ninclude 'sbu/b.gin'\n", sub__b="")
  assert refused("a").startswith("a.gin:2: no file 'sbu/b.gin' in ")


@pytest.mark.parametrize(
  "text, message",
  [
    ("X = foo\n", r"a.gin:1: foo is not a value; a string needs quotes: 'foo'"),
    ("\nX = [1 2]\n", r"a.gin:2: Expected ',' or '\]'."),
    ("X = {\n'a': 1,\n", r"a.gin:[23]: unfinished statement"),
    ("X = 1 2\n", r"a.gin:1: Expected newline."),
    ("f.g:\nX = 1\n", r"a.gin:2: Expected indentation"),
    ("X = 'a\n", r"a.gin:1: (Unable to parse value.|unfinished statement: unterminated string)"),
  ],
)
def test_bad_syntax_is_told_at_its_line(files, text, message):
  # Of what is unfinished, Python 3.12's tokenizer says another line and reason than 3.11's.
  files(a=text)
  assert re.match(message, refused("a"))


def test_a_file_that_is_not_text_is_told(files, tmp_path):
  (tmp_path / "a.gin").write_bytes(b"X = '\xff\xfe'\n")
  assert refused("a").startswith("a.gin: the file is not UTF-8 text")


@pytest.mark.parametrize(
  "text, value",
  [
    ("3", 3),
    ("-1e-3", -1e-3),
    ("'/tmp/x'", "/tmp/x"),
    ("/tmp/x", "/tmp/x"),
    ("gs://bucket/a-b_c/", "gs://bucket/a-b_c/"),
    ("wmt_t2t_ende_v003", "wmt_t2t_ende_v003"),
    ("./runs/a.b", "./runs/a.b"),
    ("~/x", "~/x"),
    ("None", None),
    ("{'inputs': 3, 'targets': %N}", {"inputs": 3, "targets": Macro("N")}),
    ("@a/f.g()", Reference(("a",), "f.g", True)),
    ("%gin.REQUIRED", REQUIRED),
    ("'a=b'", "a=b"),
  ],
)
def test_flags_take_gin_values_and_bare_paths_and_names(text, value):
  (statement,) = read([], [f"X={text}"], ()).statements
  assert (statement.value, statement.place) == (value, f"--gin.X={text}")


@pytest.mark.parametrize(
  "binding, message",
  [
    ("X=a b", """--gin.X=a b: a b is not a gin value; for a string: --gin.X="'a b'\""""),
    ("X=[1,", """--gin.X=[1,: [1, is not a gin value; for a string: --gin.X="'[1,'\""""),
    ("X=", """--gin.X=: nothing is not a gin value; for a string: --gin.X="''\""""),
    ("X=1x", "is not a gin value"),
    ("X=@", "is not a gin value"),
    ("X=true", "write --gin.X=True"),
    ("X=null", "write --gin.X=None"),
    ("X", "write --gin.NAME=VALUE"),
    ("1X=3", "write --gin.NAME=VALUE"),
    ("X=1\nY = 2", "one flag gives one value"),
  ],
)
def test_flags_that_are_no_binding_are_told_with_the_fix(binding, message):
  assert message in refused(bindings=[binding])


def test_a_scoped_binding_and_a_scoped_macro():
  one, two = read([], ["a/b/f.g.p=1", "a/X=2"], ()).statements
  assert (one.scope, one.selector, one.parameter) == (("a", "b"), "f.g", "p")
  assert (two.scope, two.selector, two.parameter) == ((), "a/X", "")


LITERALS = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
  | st.text() | st.sampled_from([Macro("a/B"), Reference(("s", "t"), "m.f", True)]),
  lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
  max_leaves=10,
)  # fmt: skip


@given(LITERALS)
@settings(max_examples=100, deadline=None)
def test_rendered_values_are_read_back(value):
  (statement,) = read([], [f"X={render(value)}"], ()).statements
  assert statement.value == value
