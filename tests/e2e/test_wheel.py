"""An installed mtm has its gin files and tasks inside itself, and no top-level `gin` or `tasks`."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def _build(what: str, source: Path, into: Path) -> Path:
  """Builds without the network: hatchling is one of the test tools."""
  subprocess.run(
    [sys.executable, "-m", "hatchling", "build", "-t", what, "-d", str(into)],
    cwd=source,
    check=True,
    capture_output=True,
  )
  (made,) = into.glob("*.whl" if what == "wheel" else "*.tar.gz")
  return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
  return _build("wheel", _ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
  return _build("sdist", _ROOT, tmp_path_factory.mktemp("sdist"))


def _files(folder: str, ending: str) -> dict[str, bytes]:
  """What the checkout has, by path from its root."""
  paths = (_ROOT / folder).rglob(f"*{ending}")
  return {path.relative_to(_ROOT).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize(("folder", "ending"), [("gin", ".gin"), ("tasks", ".py")])
def test_every_gin_file_and_task_lies_inside_mtm(wheel: Path, folder: str, ending: str) -> None:
  ours = {f"mtm/{name}": data for name, data in _files(folder, ending).items()}
  assert ours
  with zipfile.ZipFile(wheel) as archive:
    found = {
      name: archive.read(name)
      for name in archive.namelist()
      if name.startswith(f"mtm/{folder}/") and name.endswith(ending)
    }
  assert found == ours  # with their text: a link would hold a path instead


def test_only_mtm_is_installed_and_nothing_of_a_workplace(wheel: Path) -> None:
  with zipfile.ZipFile(wheel) as archive:
    names = archive.namelist()
  tops = {name.split("/")[0] for name in names}
  assert {top.split("-")[0].split(".")[0] for top in tops} == {"mtm"} and len(tops) == 2
  assert len(names) == len(set(names))
  assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
  assert "mtm/gin/__init__.py" not in names  # it would make a second package `gin` likely


def test_a_wheel_from_the_sdist_is_the_same(wheel: Path, sdist: Path, tmp_path: Path) -> None:
  with tarfile.open(sdist) as archive:
    archive.extractall(tmp_path, filter="data")
  (source,) = tmp_path.iterdir()
  again = _build("wheel", source, tmp_path / "dist")
  with zipfile.ZipFile(wheel) as a, zipfile.ZipFile(again) as b:
    assert {i.filename: i.CRC for i in a.infolist()} == {i.filename: i.CRC for i in b.infolist()}


def test_installed_gin_files_are_found_from_any_directory(wheel: Path, tmp_path: Path) -> None:
  site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
  elsewhere.mkdir()
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(site)
  # What lacks is told with the file that needs it: the run file and its includes were found.
  done = subprocess.run(
    [sys.executable, "-m", "mtm.train", "--gin_file=runs/pretrain.gin"],
    cwd=elsewhere,
    env={**os.environ, "PYTHONPATH": str(site)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  assert f"{site}/mtm/gin/runs/base/train.gin" in done.stderr and "MODEL" in done.stderr
