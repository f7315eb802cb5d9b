"""Instruction tuning from a checkpoint of ours (a decoder) and from a published one (BART)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mtm import cli
from mtm.data.vocabulary import Bytes
from mtm.training.metrics import read
from tests.e2e.test_finetune import flags, original

LENGTHS = {"inputs": 80, "targets": 16}
# Two clusters of a hundred questions; one of the sets is held out.
VALUES = {
  "SETS": ["coin_flip_1", "last_letters_1", "weekday_later"], "HOLD_OUT": ["dates"],
  "TASK_FEATURE_LENGTHS": LENGTHS, "BATCH_SIZE": 8, "EVAL_STEPS": 1, "EVALUATOR_NUM_EXAMPLES": 2,
  "MIXTURE_OR_TASK_MODULE": None, "MIXTURE_OR_TASK_NAME": "@prompted.mixture()",
}  # fmt: skip


def run(files: list[str], **values: Any) -> list[dict[str, Any]]:
  """Trains, and returns what was measured."""
  told = {name: value if str(value).startswith("@") else repr(value)
          for name, value in {**VALUES, **values}.items()}  # fmt: skip
  arguments = [f"--gin_file={file}" for file in files]
  arguments += [f"--gin.{name}={value}" for name, value in told.items()]
  assert cli.main(["train", *arguments]) == 0
  return list(read(Path(values["MODEL_DIR"])))


def check(found: list[dict[str, Any]], *tasks: str) -> None:
  """Every task that took part was measured, and none of another set."""
  named = {row["split"].split("#")[0] for row in found if "accuracy" in row}
  assert named - {"train", "validation"} == set(tasks)


def test_a_decoder_learns_answers_from_its_own_checkpoint(trained: Path, tmp_path: Path) -> None:
  files = ["runs/instruct.gin", "families/gpt2/tiny.gin", "objectives/answers.gin"]
  found = run(
    [*files, "optim/adamw.gin"],
    **{"gpt2.gpt2.vocab": 260, "gpt2.gpt2.max_length": 96, "gpt2.gpt2.embed": 32},
    MODEL_DIR=str(tmp_path), INITIAL_CHECKPOINT_PATH=str(trained), TRAIN_STEPS=2,
  )  # fmt: skip
  check(found, "coin_flip_1", "last_letters_1")
  assert "coin_flip_1" in (tmp_path / "card.md").read_text()


@pytest.mark.slow
def test_an_encoder_decoder_learns_answers_from_a_published_checkpoint(
  environment: Any, tmp_path: Path
) -> None:
  source = original(tmp_path / "theirs")
  Bytes(0).save(tmp_path / "bytes" / "vocabulary")
  files = [f for f in flags(source, {}) if f.startswith("--gin_file=")]
  model = files[-1].removeprefix("--gin_file=")
  found = run(
    ["runs/instruct.gin", "objectives/seq2seq.gin", "optim/adamw.gin", model],
    MODEL_DIR=str(tmp_path / "run"), INITIAL_CHECKPOINT_PATH=str(source), TRAIN_STEPS=2,
    VOCABULARY=str(tmp_path / "bytes"), TASK_FEATURE_LENGTHS={"inputs": 64, "targets": 16},
  )  # fmt: skip
  check(found, "coin_flip_1", "last_letters_1")
  told = json.loads((tmp_path / "run" / "vocabulary" / "vocabulary.json").read_text())
  assert told["class"].endswith("Bytes")
