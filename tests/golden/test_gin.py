"""The resolved config of every shipped run file: a changed default shows as a diff.

`MTM_UPDATE_GOLDEN=1 pytest tests/golden/test_gin.py` writes the files again.
"""

import importlib
import os
import pathlib
import re

import pytest

from mtm import config

ROOT = pathlib.Path(__file__).parents[2] / "gin"
GOLDEN = pathlib.Path(__file__).parent / "gin"
TASK = ("MIXTURE_OR_TASK_NAME='mine'", "TASK_FEATURE_LENGTHS={'inputs': 512, 'targets': 114}")
TRAIN = (*TASK, "TRAIN_STEPS=1000", "MODEL_DIR='run'")
T5 = ("families/t5_1_1/base.gin",)
RUNS = {
  "pretrain": ("mtm.train:train", T5, TRAIN),
  "finetune": ("mtm.train:train", T5, (*TRAIN, "INITIAL_CHECKPOINT_PATH='before'")),
  "instruct": ("mtm.train:train", T5, (*TRAIN[1:], "INITIAL_CHECKPOINT_PATH='before'")),
  "classify": (
    "mtm.train:train",
    ("families/bert/base.gin", "classifiers/bert.gin"),
    (*TRAIN[:1], "TASK_FEATURE_LENGTHS={'inputs': 128}", *TRAIN[2:], "INITIAL_CHECKPOINT_PATH='b'"),
  ),
  "quickstart": ("mtm.train:train", (), ()),
  "claims/switch_vs_dense": ("mtm.train:train", (), ()),
  **{
    f"claims/{name}": ("mtm.train:train", (), ())
    for name in ("chain_of_thought", "fewshot_format", "prompt_variety", "task_clusters")
  },
  "eval": (
    "mtm.eval:evaluate",
    T5,
    ("MIXTURE_OR_TASK_NAME='mine'", "CHECKPOINT_PATH='run'", "EVAL_OUTPUT_DIR='out'"),
  ),
  "fewshot": (
    "mtm.eval:evaluate",
    (),
    ("SETS=['arithmetic']", "CHECKPOINT_PATH='run'", "EVAL_OUTPUT_DIR='out'"),
  ),
  "infer": ("mtm.infer:infer", T5, (*TASK, "CHECKPOINT_PATH='run'", "INFER_OUTPUT_DIR='out'")),
  "generate": ("mtm.infer:infer", T5, ("CHECKPOINT_PATH='run'",)),
}
RUNS |= {
  f"scale/{path.stem}": ("mtm.train:train", (), ("MIXTURE_OR_TASK_NAME='mine'", "MODEL_DIR='run'"))
  for path in sorted((ROOT / "runs" / "scale").glob("*.gin"))
}


def load(name):
  root, families, bindings = RUNS[name]
  module, _, function = root.partition(":")
  files = [f"runs/{name}.gin", *families]
  return config.load(getattr(importlib.import_module(module), function), files, bindings)


@pytest.mark.parametrize("name", RUNS)
def test_the_resolved_config_is_the_golden_one(name):
  text, path = load(name).text, GOLDEN / f"{name}.gin"
  if os.environ.get("MTM_UPDATE_GOLDEN"):
    path.write_text(text)
  assert text == path.read_text()


@pytest.mark.parametrize("name", RUNS)
def test_the_golden_config_alone_is_the_same_job(name):
  module, _, function = RUNS[name][0].partition(":")
  root = getattr(importlib.import_module(module), function)
  assert config.load(root, [str(GOLDEN / f"{name}.gin")]).text == load(name).text


FAMILIES = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "families").glob("*/*.gin"))
LAYERS = sorted(
  str(path.relative_to(ROOT))
  for layer in ("objectives", "optim", "mesh")
  for path in (ROOT / layer).glob("*.gin")
)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_file_makes_a_pretraining_run(name):
  root, _, bindings = RUNS["pretrain"]
  module, _, function = root.partition(":")
  loaded = config.load(
    getattr(importlib.import_module(module), function), ["runs/pretrain.gin", name], bindings
  )
  assert loaded.value("MODEL").vocab_size > 0


CLASSIFIERS = sorted(path.stem for path in (ROOT / "classifiers").glob("*.gin"))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_file_makes_a_classifier(name):
  root, _, bindings = RUNS["classify"]
  module, _, function = root.partition(":")
  files = ["runs/classify.gin", f"families/{name}/base.gin", f"classifiers/{name}.gin"]
  loaded = config.load(
    getattr(importlib.import_module(module), function), files, (*bindings, "CLASSES=3")
  )
  assert loaded.value("MODEL").module.head.classes == loaded.value("OBJECTIVE").classes == 3


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_replaces_the_default(name):
  from mtm import train

  loaded = config.load(train.train, ["runs/pretrain.gin", *T5, name], RUNS["pretrain"][2])
  said = (ROOT / name).read_text().splitlines()
  macros = [line for line in said if re.match(r"[A-Z_]+ = ", line)]
  assert macros and set(macros) <= set(loaded.text.splitlines())
  values = [line.strip() for line in said if line.startswith("  ")]
  assert all(f".{line}\n" in loaded.text for line in values)


def test_a_t5_base_run_says_at_most_sixty_things():
  program = load("pretrain").program
  assert len(program.bindings) <= 60


def test_every_shipped_run_has_a_golden_config():
  runs = ROOT / "runs"
  every = [*runs.glob("*.gin"), *runs.glob("claims/*.gin"), *runs.glob("scale/*.gin")]
  assert {str(path.relative_to(runs).with_suffix("")) for path in every} == RUNS.keys()
  golden = {str(path.relative_to(GOLDEN).with_suffix("")) for path in GOLDEN.rglob("*.gin")}
  assert golden == RUNS.keys()
