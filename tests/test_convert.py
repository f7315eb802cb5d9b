"""`mtm convert` through its command line."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtm import cli
from mtm.interop import t5x, t5x_orbax
from mtm.interop.safetensors import INDEX, ONE
from mtm.programs import published, reference
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


@pytest.mark.parametrize("kind", ["native", "orbax"])
def test_the_state_of_adafactor_comes_back_as_t5x_wrote_it(
  kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  source = t5x_names.checkpoint(kind, "t5_1_1")
  form = {"native": t5x.FORMAT, "orbax": t5x_orbax.FORMAT}[kind]
  assert run(source, tmp_path / "ours") == 0
  assert run(tmp_path / "ours", tmp_path / "back", f"--to={form.name}") == 0
  assert capsys.readouterr().out.count("the state of Adafactor at step 3 is written too") == 2
  theirs, ours = form.open(source).source, form.open(tmp_path / "back").source
  assert ours.names() == theirs.names()
  for name in theirs.names():
    np.testing.assert_array_equal(ours.get(name), theirs.get(name), err_msg=name)
    assert ours.get(name).dtype == theirs.get(name).dtype


def test_where_there_is_no_such_state_it_is_told(
  tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  source = recorded.directory("t5_1_1", tmp_path / "hf")
  assert run(source, tmp_path / "t5x", "--to=t5x", "--no-compare") == 0
  assert "no optimizer state is written: " in capsys.readouterr().out
  assert t5x.FORMAT.open(tmp_path / "t5x").moments is None


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
    # 36 tensors of 2 MB and 2-MB chunks, and what libraries load on the way.
    pytest.param((6, 2048, 1 << 21), 0.2, id="100MB"),
    # 14 tensors of 52 MB: a tensor is there as stored, turned and as ours, three times its size.
    pytest.param((2, 51200, 1 << 25), 0.24, id="740MB", marks=pytest.mark.slow),
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
  assert total > 95e6 and len(found) == 4
  assert {way: peak for way, peak in found.items() if peak > share * total} == {}


def _without(name: str) -> Callable[[dict[str, np.ndarray]], None]:
  def damage(tensors: dict[str, np.ndarray]) -> None:
    del tensors[name]

  return damage


def _changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Any:
  return lambda tensors: tensors.update({name: change(tensors[name])})


def _poisoned(values: np.ndarray) -> np.ndarray:
  values = values.copy()
  values.flat[-1] = np.nan
  return values


NORM, KERNEL = "transformer.ln_f.weight", "transformer.h.0.mlp.c_fc.weight"


@pytest.mark.parametrize(
  ("damage", "told"),
  [
    (_without(NORM), f"lacks the tensor {NORM}"),
    (lambda t: t.update({"more": np.zeros(2, np.float32)}), "no place for, such as more"),
    (_changed(KERNEL, lambda x: x[:-1]), f"{KERNEL} gives a parameter of shape"),
    (_changed(KERNEL, _poisoned), f"{KERNEL} holds NaN or infinity"),
  ],
)
@pytest.mark.parametrize("to", ["mtm", "hf"])
def test_a_damaged_tensor_is_told_and_nothing_kept(
  damage: Any, told: str, to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  from safetensors.numpy import load_file, save_file

  source = recorded.directory("gpt2", tmp_path / "hf")
  tensors = load_file(source / ONE)
  damage(tensors)
  save_file(tensors, source / ONE)
  _refused(source, told, tmp_path, capsys, to)


def _refused(
  source: Path, told: str, home: Path, capsys: pytest.CaptureFixture[str], to: str = "mtm"
) -> None:
  """A conversion ends with one sentence, and leaves nothing in `home` that was not there."""
  before = sorted(p.name for p in home.iterdir())
  capsys.readouterr()
  assert run(source, home / "new", f"--to={to}") == 1
  error = capsys.readouterr().err
  assert error.startswith("error: ") and error.count("\n") == 1
  assert told in error
  assert sorted(p.name for p in home.iterdir()) == before


def test_a_truncated_file_and_a_wrong_index_are_told(
  tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  source = recorded.directory("gpt2", tmp_path / "hf")
  whole = (source / ONE).read_bytes()
  (source / ONE).write_bytes(whole[:-40])
  _refused(source, "is damaged or no safetensors file", tmp_path, capsys)
  (source / ONE).write_bytes(whole)
  for index, said in (
    ({"weight_map": {NORM: "gone.safetensors"}}, "has no gone.safetensors"),
    ({"weight_map": {NORM: ONE, "more": ONE}}, "index.json names more"),
    ({"weight_map": [ONE]}, "index.json is damaged"),
    ({}, "index.json is damaged"),
  ):
    (source / INDEX).write_text(json.dumps(index))
    _refused(source, said, tmp_path, capsys)
  (source / INDEX).unlink()
  (source / "config.json").write_text("{")
  _refused(source, "config.json cannot be read", tmp_path, capsys)


def test_a_damaged_array_of_t5x_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  source = tmp_path / "t5x"
  shutil.copytree(t5x_names.checkpoint("native", "t5_1_1"), source)
  chunk = source / "target.encoder.layers_0.mlp.wo.kernel" / "0.0"
  whole = chunk.read_bytes()
  chunk.write_bytes(whole[: len(whole) // 2])
  _refused(source, "wo.kernel is missing or damaged", tmp_path, capsys)
  chunk.unlink()
  _refused(source, "wo.kernel is missing or damaged", tmp_path, capsys)


def test_a_damaged_checkpoint_of_ours_is_told(
  tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  source = tmp_path / "ours"
  assert run(t5x_names.checkpoint("native", "t5_tied"), source) == 0
  for file in (source / "checkpoints" / "0" / "params" / "ocdbt.process_0" / "d").iterdir():
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  _refused(source, "is damaged or not mtm's", tmp_path, capsys, "hf")
  shutil.rmtree(source / "checkpoints" / "0" / "params")
  _refused(source, "it has no params", tmp_path, capsys, "hf")


@pytest.mark.parametrize("to", ["mtm", "hf", "t5x"])
def test_an_interruption_keeps_nothing(
  to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  """SIGTERM while parameters are written."""
  source = t5x_names.checkpoint("native", "t5_1_1")

  def interrupted(kept: published.Filed, *told: Any, **more: Any) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGTERM)
    return original(kept, *told, **more)

  original = published.Filed.__array__

  def written(*arguments: Any) -> int:
    monkeypatch.setattr(published.Filed, "__array__", interrupted)
    return into(*arguments)

  into = published._write_into
  monkeypatch.setattr(published, "_write_into", written)
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(SystemExit) as ended:
    run(source, tmp_path / "new", f"--to={to}", "--no-compare")
  assert ended.value.code == 143
  assert "interrupted: nothing is kept" in capsys.readouterr().err
  assert list(tmp_path.iterdir()) == []
  assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_is_told(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  source = recorded.directory("gpt2", tmp_path / "hf")

  def full(*told: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
  _refused(source, "No space left on device", tmp_path, capsys)


def test_what_was_written_for_huggingface_is_compared_too(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  """Where the source has no original to run, the directory that is written has one."""
  arrays = t5x_names.load("t5_tied")
  logits, asked = arrays["logits"], list[Path]()

  def transformers(folder: Path, model: Any, name: str) -> reference.Reference:
    asked.append(folder)
    assert name == "T5ForConditionalGeneration" and (folder / ONE).exists()
    batch = reference.from_file(t5x_names.FIXTURES / "t5_tied.npz").batch
    return reference.Reference("transformers", batch, logits)

  monkeypatch.setattr(reference, "from_transformers", transformers)
  source = t5x_names.checkpoint("native", "t5_tied")
  assert run(source, tmp_path / "hf", "--to=hf") == 0
  assert "beside transformers: largest" in capsys.readouterr().out and len(asked) == 1
  logits = logits + 1
  _refused(source, "logits differ by 1.0", tmp_path, capsys, "hf")
  monkeypatch.setattr(reference, "room", lambda values: False)
  assert run(source, tmp_path / "large", "--to=hf") == 0
  assert "more memory than is free" in capsys.readouterr().out and len(asked) == 2
