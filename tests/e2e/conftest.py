"""A user's data and a tiny run on them, trained once for all tests of the binaries."""

import json
import os
import random
from pathlib import Path

import pytest

from mtm import cli

ROOT = Path(__file__).parents[2]
STEPS = 24


@pytest.fixture(scope="session")
def data(tmp_path_factory):
  """A folder with the files of `tests.e2e.my_tasks`, and MTM_CACHE beside it."""
  home = tmp_path_factory.mktemp("data")
  words = "the quick brown fox jumps over a lazy dog and runs away".split()
  draw = random.Random(0)
  for split, count in (("train", 60), ("validation", 20)):
    texts = [" ".join(draw.choices(words, k=draw.randint(3, 12))) for _ in range(count)]
    rows = [{"q": text, "a": text.upper()} for text in texts]
    (home / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / f"{split}.csv").write_text("q,a\n" + "".join(f"{r['q']},{r['a']}\n" for r in rows))
    (home / f"{split}.txt").write_text("".join(f"{text}.\n" for text in texts))
  return home


@pytest.fixture(scope="session")
def environment(data):
  """What the commands below need in the environment, set for the session."""
  new = {"MY_DATA": str(data), "MTM_CACHE": str(data / "cache"), "GLIBC_TUNABLES": ""}
  before = {name: os.environ.get(name) for name in new}
  os.environ.update(new)
  yield {**os.environ}
  for name, value in before.items():
    if value is None:
      os.environ.pop(name)
    else:
      os.environ[name] = value


def training(model_dir, **changes):
  """Flags of a run with a mixture of three tasks, packing and dropout, on eight devices."""
  values = {
    "MODEL_DIR": str(model_dir),
    "TRAIN_STEPS": STEPS,
    "MIXTURE_OR_TASK_NAME": "my_mix",
    "MIXTURE_OR_TASK_MODULE": "tests.e2e.my_tasks",
    "TASK_FEATURE_LENGTHS": {"targets": 48},
    "BATCH_SIZE": 8,
    "EVAL_STEPS": 2,
    "EVAL_PERIOD": 12,
    "CHECKPOINT_PERIOD": 8,
    "DROPOUT_RATE": 0.2,
    "LEARNING_RATE": 0.01,
    "gpt2.gpt2.vocab": 260,
    "gpt2.gpt2.max_length": 96,
    "gpt2.gpt2.embed": 32,
    **changes,
  }
  files = ("runs/pretrain.gin", "families/gpt2/tiny.gin", "optim/adamw.gin")
  return [
    *(f"--gin_file={file}" for file in files),
    *(f"--gin.{name}={value!r}" for name, value in values.items()),
  ]


@pytest.fixture(scope="session")
def trained(environment, tmp_path_factory):
  """The MODEL_DIR of a run that nothing happened to."""
  model_dir = tmp_path_factory.mktemp("runs") / "whole"
  assert cli.main(["train", *training(model_dir)]) == 0
  return model_dir
