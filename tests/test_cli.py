import re

import pytest

from mtm import cli
from mtm.errors import UserError


def test_help_names_every_verb(capsys):
  assert cli.main(["--help"]) == 0
  assert set(re.findall(r"^  mtm (\w+)", capsys.readouterr().out, re.M)) == set(cli.VERBS)


def test_an_unknown_verb_is_told_with_the_nearest(capsys):
  assert cli.main(["trian"]) == 1
  assert capsys.readouterr().err == "error: mtm has no command 'trian'; did you mean 'train'?\n"


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_a_main(verb):
  module = __import__(cli.VERBS[verb][0], fromlist=["main"])
  assert callable(module.main)


def test_an_error_of_the_user_is_one_line_and_exit_code_1(monkeypatch, capsys):
  def fail(argv):
    raise UserError(f"no such thing as {argv[0]}")

  monkeypatch.setattr("mtm.inspect.main", fail)
  assert cli.main(["inspect", "this"]) == 1
  assert capsys.readouterr().err == "error: no such thing as this\n"
