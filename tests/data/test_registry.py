"""Tasks are found by name wherever they come from, and a wrong name is told with its neighbour."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mtm.data import registry
from mtm.data._tensorflow import seqio
from mtm.errors import UserError


def test_shipped_tasks_and_mixtures_are_found():
  assert registry.find("stdlib_code").name == "stdlib_code"
  assert isinstance(registry.find("stdlib_mix"), seqio().Mixture)


def test_an_unknown_name_is_told_with_the_nearest():
  with pytest.raises(UserError, match=r"'stdlib_cod' is registered; did you mean 'stdlib_code'\?"):
    registry.find("stdlib_cod")


def test_registering_twice_does_no_harm():
  registry.register()
  before = set(seqio().TaskRegistry.names())
  registry.register()
  assert set(seqio().TaskRegistry.names()) == before


def test_a_module_that_does_not_exist_is_told():
  for module in ("no_such_tasks", "no_such_package.tasks", "mtm.no_such"):
    with pytest.raises(UserError, match=f"MIXTURE_OR_TASK_MODULE '{module}': no module"):
      registry.register(module)


def test_an_import_error_inside_the_module_is_not_hidden(tmp_path, monkeypatch):
  (tmp_path / "needs_more.py").write_text("import no_such_dependency\n")
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
    registry.register("needs_more")


def said(code, folder):
  """The words that a process of its own prints, in `folder`."""
  done = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    cwd=folder,
    env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": ""},
  )
  assert done.returncode == 0, done.stderr
  return done.stdout.split()


def test_a_users_module_imports_without_tensorflow_and_its_task_is_found(tmp_path):
  (tmp_path / "own_tasks.py").write_text(
    "from mtm.data.sources.files import jsonl_task\n"
    "jsonl_task('own', {'train': 'a.jsonl'}, targets='text')\n"
  )
  code = (
    "import sys; sys.path.insert(0, '');"
    "import own_tasks; print('tensorflow' in sys.modules);"
    "from mtm.data import registry; print(registry.find('own', 'own_tasks').name)"
  )
  assert said(code, tmp_path) == ["False", "own"]


def test_a_mixture_of_ones_own_may_name_a_set_with_prompts(tmp_path):
  (tmp_path / "own_mixture.py").write_text(
    "from mtm.data.sources.mixtures import mixture\n"
    "mixture('own', ['is_larger', 'stdlib_docstrings'])\n"
  )
  code = (
    "import sys; sys.path.insert(0, ''); from mtm.data import registry;"
    "print(*(task.name for task in registry.find('own', 'own_mixture').tasks))"
  )
  assert said(code, tmp_path) == ["is_larger", "stdlib_docstrings"]
