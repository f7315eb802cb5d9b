"""Fine-tuning a BART at HuggingFace begins, ends and goes on with that checkpoint's own ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import mtm
from mtm import cli, config
from mtm.data.vocabulary import Bytes
from mtm.families._published import complete
from mtm.families.bart import bart
from mtm.interop import Export, hf
from mtm.programs import published
from mtm.training.metrics import read

SEQ2SEQ = "objectives/seq2seq.gin"
LENGTHS = {"inputs": 40, "targets": 40}
BEGIN, PAD = 2, 3  # no byte of a text has these ids


def original(folder: Path, **changes: Any) -> Path:
  """A BART of bytes with random parameters, as HuggingFace keeps one."""
  arguments = complete(bart, {"layers": 1, "embed": 16, "heads": 2, "mlp": 16, "vocab": 260,
                              "max_length": 64, "dropout": 0.0})  # fmt: skip
  model = bart(**arguments)
  batch = {name: np.zeros((1, 8), np.int32) for name in model.inputs}
  params = jax.tree.map(lambda x: 8 * x, model.init(jax.random.key(0), batch))
  folder.mkdir()
  hf.FORMAT.write(folder, Export(bart, arguments, params))
  told = json.loads((folder / "config.json").read_text())
  (folder / "config.json").write_text(json.dumps({**told, "pad_token_id": PAD, **changes}))
  return folder


def flags(source: Path, where: dict[str, Any], *files: str) -> list[str]:
  model = source.parent / "model.gin"
  opened = published.open_checkpoint(source)
  model.write_text(config.call("MODEL", opened.build, opened.arguments))
  values = {"MIXTURE_OR_TASK_NAME": "my_pairs", "MIXTURE_OR_TASK_MODULE": "tests.e2e.my_tasks",
            "TASK_FEATURE_LENGTHS": LENGTHS, "BATCH_SIZE": 8, **where}  # fmt: skip
  return [
    *(f"--gin_file={file}" for file in (*files, model)),
    *(f"--gin.{name}={value!r}" for name, value in values.items()),
  ]


def training(source: Path, model_dir: Path) -> list[str]:
  # Without a step that changes anything, the losses are those of the original.
  where = {"INITIAL_CHECKPOINT_PATH": str(source), "MODEL_DIR": str(model_dir), "TRAIN_STEPS": 2,
           "LEARNING_RATE": 0.0, "EVAL_PERIOD": 2, "EVAL_STEPS": 9}  # fmt: skip
  return flags(source, where, "runs/finetune.gin", "optim/adamw.gin", SEQ2SEQ)


def texts(data: Path) -> tuple[list[list[int]], list[list[int]]]:
  """The validation split as the pipeline trims it, each text with its end."""
  rows = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]
  ids = ([[*Bytes(0).encode(row[side])[:39], 1] for row in rows] for side in ("q", "a"))
  inputs, targets = ids
  return inputs, targets


@pytest.mark.slow
def test_the_begin_travels_from_the_checkpoint_into_all_that_follows(
  data: Path, environment: Any, tmp_path: Path
) -> None:
  source = original(tmp_path / "theirs")
  handle = mtm.load(source)
  assert (handle.begin_id, handle.pad_id, handle.eos_id) == (BEGIN, PAD, 2)
  inputs, targets = texts(data)
  tokens = sum(map(len, targets))
  loss = -sum(handle.score(inputs, targets)) / tokens
  t5s = -sum(mtm.load(source, begin_id=0).score(inputs, targets)) / tokens
  assert abs(loss - t5s) > 1e-3  # what begins matters to this model

  model_dir = tmp_path / "run"
  assert cli.main(["train", *training(source, model_dir)]) == 0
  (row,) = [row for row in read(model_dir) if row["split"] == "validation" and "loss" in row]
  assert row["cross_entropy"] == pytest.approx(loss, rel=1e-5)  # float32

  trained = mtm.load(model_dir)
  assert (trained.begin_id, trained.pad_id, trained.eos_id) == (
    BEGIN,
    PAD,
    1,
  )  # its data end with 1
  assert trained.score(inputs[:8], targets[:8]) == handle.score(inputs[:8], targets[:8])

  where = {"CHECKPOINT_PATH": str(model_dir), "EVAL_OUTPUT_DIR": str(tmp_path / "eval"),
           "SPLIT": "validation"}  # fmt: skip
  assert cli.main(["eval", *flags(source, where, "runs/eval.gin", SEQ2SEQ)]) == 0
  (row,) = [row for row in read(tmp_path / "eval") if "loss" in row]
  assert row["cross_entropy"] == pytest.approx(loss, rel=1e-5)

  where = {"CHECKPOINT_PATH": str(model_dir), "INFER_OUTPUT_DIR": str(tmp_path / "out"),
           "SPLIT": "validation", "MAX_DECODE_LENGTH": 6}  # fmt: skip
  assert cli.main(["infer", *flags(source, where, "runs/infer.gin")]) == 0
  (file,) = (tmp_path / "out").glob("rows-*")
  said = [json.loads(line)["prediction"] for line in file.read_text().splitlines()]
  assert said == trained.generate(inputs, 6)

  # Written for HuggingFace, its config says what it was trained with.
  assert cli.main(["convert", str(model_dir), str(tmp_path / "again"), "--to=hf"]) == 0
  told = json.loads((tmp_path / "again" / "config.json").read_text())
  assert (told["decoder_start_token_id"], told["eos_token_id"]) == (BEGIN, 1)


def test_a_found_checkpoint_is_evaluated_as_it_is(
  data: Path, environment: Any, tmp_path: Path
) -> None:
  source = original(tmp_path / "theirs", decoder_start_token_id=7)
  inputs, targets = texts(data)
  loss = -sum(mtm.load(source).score(inputs, targets)) / sum(map(len, targets))
  where = {"CHECKPOINT_PATH": str(source), "EVAL_OUTPUT_DIR": str(tmp_path / "eval"),
           "SPLIT": "validation"}  # fmt: skip
  assert cli.main(["eval", *flags(source, where, "runs/eval.gin", SEQ2SEQ)]) == 0
  (row,) = [row for row in read(tmp_path / "eval") if "loss" in row]
  assert row["step"] == 0 and row["cross_entropy"] == pytest.approx(loss, rel=1e-5)  # float32
