"""What the README and docs/ tell people to type is accepted, and their links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import mtm.eval
import mtm.infer
import mtm.train
from mtm import config
from mtm.config import flags

_ROOT = Path(__file__).parents[2]
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))]
_ROOTS = {"train": mtm.train.train, "eval": mtm.eval.evaluate, "infer": mtm.infer.infer}


def _blocks(page: Path, language: str) -> list[str]:
  return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def _commands() -> list[str]:
  """Every `mtm train|eval|infer` in a block, its continued lines joined."""
  lines = [
    line
    for page in _PAGES
    for block in _blocks(page, "")
    for line in block.replace("\\\n", " ").splitlines()
  ]
  found = [re.search(r"\bmtm (?:train|eval|infer) .*", line) for line in lines]
  every = [" ".join(match[0].split()) for match in found if match]
  return [command for command in every if "--lm_eval" not in command]  # has no gin file


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
  """A current directory with what earlier commands of the docs leave behind."""
  monkeypatch.chdir(tmp_path)
  for name, text in {
    "quickstart/model.gin": "include 'families/llama/nano.gin'\n",
    "mine/config.gin": "include 'runs/quickstart.gin'\n",
  }.items():
    path = tmp_path / "mtm_runs" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
  return tmp_path


def test_the_docs_show_commands() -> None:
  assert len(_commands()) >= 4 and len(_PAGES) >= 4


@pytest.mark.parametrize("command", _commands())
def test_every_command_passes_the_check_of_its_gin_files(command: str, runs: Path) -> None:
  verb, *rest = shlex.split(command)[1:]
  told = flags.parse(rest)
  config.load(_ROOTS[verb], told.files, told.bindings)


def test_the_gin_file_of_the_docs_is_a_run(runs: Path) -> None:
  (text,) = [b for b in _blocks(_ROOT / "docs" / "gin.md", "") if "dynamic_registration" in b]
  (runs / "mine.gin").write_text(text)
  config.load(mtm.train.train, ["mine.gin"])


def test_the_readme_s_python_gives_logits() -> None:
  (source,) = [b for b in _blocks(_ROOT / "README.md", "python") if "gpt2" in b]
  names: dict[str, object] = {}
  exec(compile(source, "README.md", "exec"), names)
  assert names["logits"].shape == (1, 16, 256)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_links_and_paths_exist(page: Path) -> None:
  text = page.read_text()
  links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
  assert all((page.parent / link).exists() for link in links), links
  for name in re.findall(r"`((?:runs|families|objectives|optim)/[\w/]+\.gin)`", text):
    assert (_ROOT / "gin" / name).exists(), name
  for name in re.findall(r"`((?:mtm|tests|tasks|gin|benchmarks)/[\w/.]*)`", text):
    assert (_ROOT / name).exists(), name


def test_every_make_target_that_is_named_exists() -> None:
  targets = set(re.findall(r"^([a-z-]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE))
  for page in _PAGES:
    blocks = "\n".join(_blocks(page, ""))
    assert set(re.findall(r"^make ([a-z-]+)", blocks, re.MULTILINE)) <= targets
