"""`mtm convert` through its command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mtm import cli
from mtm.interop.safetensors import ONE
from tests.families import recorded, t5x_names


def run(*arguments: object) -> int:
  return cli.main(["convert", *map(str, arguments)])


@pytest.mark.parametrize("name", ["gpt2", "t5_1_1"])
def test_huggingface_there_and_back_is_the_same_file(
  name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  source = recorded.directory(name, tmp_path / "hf")
  batch = {f"in/{k}": x for k, x in recorded.batch(name).items()}
  logits = recorded.arrays(name)["logits"]
  np.savez(tmp_path / "reference.npz", logits=logits, **batch)
  assert run(source, tmp_path / "ours", "--reference", tmp_path / "reference.npz") == 0
  told = capsys.readouterr().out
  assert "parameters" in told and "at 100.00 % of places" in told
  assert run(tmp_path / "ours", tmp_path / "back", "--to=hf") == 0
  assert _tensors(tmp_path / "back") == _tensors(source)


def _tensors(folder: Path) -> dict[str, bytes]:
  from safetensors.numpy import load_file

  return {k: x.tobytes() for k, x in load_file(folder / ONE).items()}


def test_t5x_to_huggingface_and_to_t5x(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  source = t5x_names.checkpoint("native", "t5_1_1")
  assert run(source, tmp_path / "hf", "--to=hf") == 0
  told = ["--reference", t5x_names.FIXTURES / "t5_1_1.npz", "--tolerance=1e-5"]
  assert run(tmp_path / "hf", tmp_path / "t5x", "--to=t5x", *told) == 0
  assert run(tmp_path / "t5x", tmp_path / "ours", *told) == 0
  assert "t5x, t5, 13,120 parameters" in capsys.readouterr().out


def test_beyond_the_tolerance_nothing_is_kept(
  tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  source = t5x_names.checkpoint("native", "t5_tied")
  with np.load(t5x_names.FIXTURES / "t5_tied.npz") as file:
    arrays = dict(file)
  np.savez(tmp_path / "wrong.npz", **{**arrays, "logits": arrays["logits"] + 0.1})
  assert run(source, tmp_path / "ours", "--reference", tmp_path / "wrong.npz") == 1
  assert "more than --tolerance=0.001: nothing was written" in capsys.readouterr().err
  assert sorted(p.name for p in tmp_path.iterdir()) == ["wrong.npz"]


@pytest.mark.parametrize(
  ("arguments", "told"),
  [
    (["nowhere", "new"], "nowhere does not exist"),
    ([".", "new"], "holds no mtm checkpoint"),
    ([".", "new", "--to=hg"], "no such format; did you mean 'hf'"),
  ],
)
def test_bad_input_is_told_in_one_line(
  arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
  monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
  monkeypatch.chdir(tmp_path)
  assert run(*arguments) == 1
  error = capsys.readouterr().err
  assert told in error and error.count("\n") == 1


def test_an_existing_destination_is_left_alone(
  tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  (tmp_path / "there").mkdir()
  (tmp_path / "there" / "mine").touch()
  assert run(t5x_names.checkpoint("native", "t5_tied"), tmp_path / "there") == 1
  assert "exists already" in capsys.readouterr().err
  assert [p.name for p in (tmp_path / "there").iterdir()] == ["mine"]


ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
  ("sizes", "share"),
  [
    # 48 tensors of 2 MB and 2-MB chunks, of which arenas of malloc keep some.
    pytest.param((8, 2048, 1 << 21), 0.35, id="130MB"),
    # 14 tensors of 52 MB: a tensor is there as stored, as ours and compressed.
    pytest.param((2, 51200, 1 << 25), 0.35, id="740MB", marks=pytest.mark.slow),
  ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_near_one_tensor(sizes: tuple[int, int, int], share: float) -> None:
  """Measured in a process of its own, for each way between the formats."""
  told = subprocess.run(
    [sys.executable, "-m", "tests.programs.converting", *map(str, sizes)],
    cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
  )  # fmt: skip
  found = json.loads(told.stdout.splitlines()[-1])
  total = found.pop("total")
  assert total > 120e6 and len(found) == 4
  assert {way: peak for way, peak in found.items() if peak > share * total} == {}
