"""`mtm infer`, `mtm eval` and `mtm inspect` on a trained run."""

import io
import json
import re
import types

import pytest

from mtm import cli
from mtm.training.metrics import read
from tests.e2e.conftest import STEPS

SHORT = "--gin.MAX_DECODE_LENGTH=8"


def infer(trained, run, *flags):
  files = [f"--gin_file={trained / 'model.gin'}", f"--gin_file=runs/{run}.gin"]
  path = f"--gin.CHECKPOINT_PATH={str(trained)!r}"
  return cli.main(["infer", *files, path, *flags])


def rows(directory):
  paths = sorted(directory.glob("rows-*"))
  return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
  path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
  lines = [{"inputs": f"THE {word}", "id": i} for i, word in enumerate("QUICK LAZY DOG A".split())]
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return path


def test_lines_of_a_file_are_continued_and_their_fields_kept(trained, prompts, tmp_path):
  flags = (f"--gin.INPUT={str(prompts)!r}", f"--gin.INFER_OUTPUT_DIR={str(tmp_path)!r}")
  assert infer(trained, "generate", SHORT, *flags) == 0
  found = rows(tmp_path)
  assert [row["id"] for row in found] == [0, 1, 2, 3]
  assert all(isinstance(row["prediction"], str) and row["score"] < 0 for row in found)


def test_neither_cache_nor_batch_size_change_what_is_said(trained, prompts, tmp_path):
  said = []
  for number, flags in enumerate(
    [(), ("--gin.modes.Predict.use_cache=False",), ("--gin.BATCH_SIZE=8",)]
  ):
    out = tmp_path / str(number)
    more = (f"--gin.INPUT={str(prompts)!r}", f"--gin.INFER_OUTPUT_DIR={str(out)!r}", *flags)
    assert infer(trained, "generate", SHORT, *more) == 0
    said.append([row["prediction"] for row in rows(out)])
  assert said[0] == said[1] == said[2]


def test_standard_input_to_standard_output(trained, monkeypatch, capsys):
  monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(b"THE\nA DOG\n")))
  assert infer(trained, "generate", SHORT) == 0
  found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [row["inputs"] for row in found] == ["THE", "A DOG"]


def test_an_interrupted_inference_goes_on(trained, prompts, tmp_path):
  flags = (f"--gin.INPUT={str(prompts)!r}", f"--gin.INFER_OUTPUT_DIR={str(tmp_path)!r}")
  assert infer(trained, "generate", SHORT, *flags) == 0
  (path,) = tmp_path.glob("rows-*")
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2])  # killed in the middle of a row
  assert infer(trained, "generate", SHORT, *flags) == 0
  assert path.read_bytes() == whole


def test_beam_search_and_sampling_are_a_flag_away(trained, prompts, tmp_path):
  (tmp_path / "policy.gin").write_text(
    "from __gin__ import dynamic_registration\n"
    "from mtm.decoding import beam\n"
    "POLICY = @beam.Beam()\nbeam.Beam.size = 2\n"
  )
  flags = (
    f"--gin.INPUT={str(prompts)!r}",
    f"--gin.INFER_OUTPUT_DIR={str(tmp_path / 'out')!r}",
    f"--gin_file={tmp_path / 'policy.gin'}",
  )
  assert infer(trained, "generate", SHORT, *flags) == 0
  assert all(1 <= len(row["prediction"]) <= 2 for row in rows(tmp_path / "out"))


TASK = (
  "--gin.MIXTURE_OR_TASK_NAME='my_pairs'",
  "--gin.MIXTURE_OR_TASK_MODULE='tests.e2e.my_tasks'",
  "--gin.TASK_FEATURE_LENGTHS={'inputs': 48, 'targets': 40}",
  "--gin.SPLIT='validation'",
)


def test_the_examples_of_a_task_are_scored_in_shards(trained, tmp_path):
  for shard in (0, 1):
    flags = ("--gin.NUM_SHARDS=2", f"--gin.SHARD_ID={shard}", "--gin.MODE=@modes.Score()")
    out = f"--gin.INFER_OUTPUT_DIR={str(tmp_path / str(shard))!r}"
    assert infer(trained, "infer", *TASK, *flags, out, "--gin.BATCH_SIZE=8") == 0
  parts = [rows(tmp_path / str(shard)) for shard in (0, 1)]
  assert [len(part) for part in parts] == [10, 10]
  assert all(row["score"] < 0 and row["tokens"] > 1 for part in parts for row in part)
  assert len({row["inputs"] for part in parts for row in part}) > 15


def test_eval_measures_what_training_measured(trained, tmp_path):
  flags = [f"--gin_file={trained / name}" for name in ("model.gin", "objective.gin")]
  values = {
    "CHECKPOINT_PATH": str(trained), "EVAL_OUTPUT_DIR": str(tmp_path), "BATCH_SIZE": 8,
    "MIXTURE_OR_TASK_NAME": "my_mix", "MIXTURE_OR_TASK_MODULE": "tests.e2e.my_tasks",
    "TASK_FEATURE_LENGTHS": {"targets": 48}, "SPLIT": "validation",
    "pipeline.Dataset.num_batches": 2,
  }  # fmt: skip
  flags += ["--gin_file=runs/eval.gin", *(f"--gin.{n}={v!r}" for n, v in values.items())]
  assert cli.main(["eval", *flags]) == 0
  (row,) = read(tmp_path)
  (last,) = [r for r in read(trained) if r["split"] == "validation" and r["step"] == STEPS]
  assert row["step"] == STEPS
  for name in ("loss", "accuracy", "bits_per_byte"):
    assert row[name] == last[name]


def test_eval_runs_the_metrics_of_a_task(trained, tmp_path, capsys):
  flags = [f"--gin_file={trained / name}" for name in ("model.gin", "objective.gin")]
  values = {
    "CHECKPOINT_PATH": str(trained), "EVAL_OUTPUT_DIR": str(tmp_path), "BATCH_SIZE": 8,
    "scoring.TaskMetrics.num_examples": 5, "scoring.TaskMetrics.max_length": 6,
  }  # fmt: skip
  flags += ["--gin_file=runs/eval.gin", *(f"--gin.{n}={v!r}" for n, v in values.items()), *TASK]
  assert cli.main(["eval", *flags]) == 0
  found = {row["split"]: row for row in read(tmp_path)}
  assert found["my_pairs"]["right"] == 0.0
  assert "my_pairs" in capsys.readouterr().out
  assert list((tmp_path / "inference_eval").glob("*"))


def test_inspect_lists_every_parameter_of_a_checkpoint(trained, capsys):
  assert cli.main(["inspect", str(trained)]) == 0
  text = capsys.readouterr().out
  assert re.search(r"tokens/embedding +260 × 32 .* 8,320 ", text)
  assert cli.main(["inspect", f"--gin_file={trained / 'model.gin'}"]) == 0
  both = capsys.readouterr().out
  total = re.compile(r"total +([\d,]+)")
  assert total.search(text)[1] == total.search(both)[1]
  assert "vocab, embed" in both


SETS = """
from mtm.prompts.prompted import Prompted
from mtm.prompts.template import Template

WORDS = "quick brown fox jumps over lazy dog runs away".split()
rows = [{"w": w, "choices": (w.upper(), w[::-1]), "gold": i % 2} for i, w in enumerate(WORDS)]
says = [{"w": w, "answer": w.upper()} for w in WORDS]
SETS = (
  Prompted("shouted", "words", {"train": lambda: rows[4:], "test": lambda: rows[:4]},
           (Template("arrow", "{w} ->"),)),
  Prompted("said", "words", {"train": lambda: says[4:], "test": lambda: says[:4]},
           (Template("arrow", "{w} =>"),), ("exact_match",)),
)
"""


def test_questions_are_asked_with_and_without_exemplars(trained, tmp_path, monkeypatch, capsys):
  (tmp_path / "my_sets.py").write_text(SETS)
  monkeypatch.syspath_prepend(tmp_path)
  values = {
    "CHECKPOINT_PATH": str(trained), "EVAL_OUTPUT_DIR": str(tmp_path / "out"), "SETS": ["words"],
    "SETS_MODULE": "my_sets", "SHOTS": (0, 1), "MAX_DECODE_LENGTH": 8, "BATCH_SIZE": 8,
  }  # fmt: skip
  flags = ["--gin_file=runs/fewshot.gin", *(f"--gin.{n}={v!r}" for n, v in values.items())]
  assert cli.main(["eval", *flags]) == 0
  shown = capsys.readouterr().out
  assert re.search(r"shouted +accuracy +\d+\.\d ± \d+\.\d +\d+\.\d", shown)
  told = json.loads((tmp_path / "out" / "results.json").read_text())
  assert [(row["set"], row["k"]) for row in told["sets"]] == [
    ("said", 0), ("said", 1), ("shouted", 0), ("shouted", 1),
  ]  # fmt: skip
  assert "accuracy/calibrated" in told["cells"][2]["metrics"]
  assert (tmp_path / "out" / "plots" / "fewshot.png").exists()
  logged = {row["split"]: row for row in read(tmp_path / "out")}
  assert logged["shouted/1shot"]["accuracy"] == told["sets"][3]["value"]
  assert logged["shouted/1shot"]["step"] == STEPS
  answers = (tmp_path / "out" / "answers.jsonl").read_bytes()
  assert len(answers.splitlines()) == 16
  assert cli.main(["eval", *flags]) == 0  # again: nothing is asked
  assert (tmp_path / "out" / "answers.jsonl").read_bytes() == answers


def test_an_evaluation_of_nothing_is_refused(trained, tmp_path, capsys):
  (tmp_path / "empty.gin").write_text(
    "from __gin__ import dynamic_registration\nfrom mtm import eval\ninclude 'mesh/data.gin'\n"
    "eval.evaluate.mesh = %MESH\n"
    f"eval.evaluate.checkpoint_path = {str(trained)!r}\n"
    f"eval.evaluate.output_dir = {str(tmp_path)!r}\n"
  )
  assert cli.main(["eval", f"--gin_file={tmp_path / 'empty.gin'}"]) == 1
  assert "nothing is measured: give data (runs/eval.gin)" in capsys.readouterr().err
