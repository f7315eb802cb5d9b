"""`mtm tasks`: what it lists and prints is what the data are."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mtm.data import registry, show
from mtm.data._tensorflow import seqio, tensorflow
from mtm.data.pipeline import Dataset
from mtm.data.sources import _labels, files
from mtm.errors import UserError
from tests.data import tiny, toy


@pytest.fixture
def tasks(tmp_path, monkeypatch) -> dict[str, list[str]]:
  """Two tasks of text, of 30 and 10 examples, and a mixture of them."""
  monkeypatch.setenv("MTM_CACHE", str(tmp_path / "cache"))
  texts = {
    "shown_a": [f"text {i} of [a]" for i in range(30)],
    "shown_b": [f"{i}" for i in range(10)],
  }
  for name, rows in texts.items():
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"targets": row}) + "\n" for row in rows))
    files.jsonl_task(name, {"train": path, "test": path}, vocabulary=tiny.vocabulary())
  registry.register()  # those that waited for SeqIO, where this test is a process's first
  names = seqio().MixtureRegistry.names()
  if "shown_mix" in names:
    seqio().MixtureRegistry.remove("shown_mix")
  seqio().MixtureRegistry.add("shown_mix", [("shown_a", 3.0), ("shown_b", 1.0)])
  return texts


def test_every_task_and_mixture_is_listed(tasks):
  rows = {row.name: row for row in show.list_tasks()}
  assert list(rows) == sorted(rows)
  assert {*seqio().TaskRegistry.names(), *seqio().MixtureRegistry.names()} == set(rows)
  assert rows["lm1b"].source == "tfds lm1b:1.1.0" and rows["lm1b"].features == "targets"
  assert rows["shown_a"].source.endswith("shown_a.jsonl")
  assert rows["shown_mix"].kind == "mixture" and rows["shown_mix"].source == "shown_a, shown_b"
  assert rows["glue_mrpc_v002"].metrics == "accuracy f1"


def test_padding_and_pieces_are_those_of_the_batches(tasks):
  data = Dataset(
    "shown_a", {"targets": 64}, "train", batch_size=2, use_cached=False, shuffle=False, num_epochs=1
  )
  stats = show.packed(data, ["targets"])
  lengths = [len(tiny.vocabulary().encode(text)) + 1 for text in tasks["shown_a"]]
  assert stats.rows >= np.ceil(sum(lengths) / 64)
  assert stats.padding["decoder"] == pytest.approx(1 - sum(lengths) / (64 * stats.rows))
  assert stats.segments["decoder"] == pytest.approx(30 / stats.rows)
  assert stats.proportions["shown_a"]["examples"] == 30


def test_show_prints_examples_tokens_lengths_and_padding(tasks, capsys):
  assert show.main(["show", "shown_a", "--examples", "1", "--length", "32"]) == 0
  said = capsys.readouterr().out
  assert "text 0 of [a]" in said
  first = tiny.vocabulary().encode("text 0 of [a]")
  assert f"{first[0]} {tiny.vocabulary().decode(first[:1])!r}" in said and "1 end" in said
  assert f"{len(first) + 1} of at most 32 tokens" in said
  assert "padding" in said and "text 1 of" not in said and "500" in said


def test_show_prints_rates_and_realised_proportions_of_a_mixture(tasks, capsys):
  assert show.main(["show", "shown_mix", "--split", "test", "--length=targets=64"]) == 0
  said = capsys.readouterr().out
  assert "mixture of 2 tasks" in said and "75.00%" in said and "25.00%" in said
  assert "shown_a, test, example 1" in said and "shown_b, test, example 1" in said


def test_the_list_is_printed(tasks, capsys):
  assert show.main([]) == 0
  said = capsys.readouterr().out
  assert "stdlib_mix" in said and "66 tasks, aeslc to" in said
  assert "is_larger" in said and "is_larger:p1" not in said
  assert show.main(["--all"]) == 0
  assert "is_larger:p1" in capsys.readouterr().out


def test_a_set_of_prompts_is_shown_with_its_templates(capsys):
  assert show.main(["show", "last_letters_1", "--split", "validation", "--rows", "0"]) == 0
  said = capsys.readouterr().out
  assert "last_letters_1:cot, last_letters_1:cot1" in said and "last_letters_1:short" in said
  assert "last letters" in said.lower()


@pytest.mark.parametrize(
  ("arguments", "told"),
  [
    (["shown_c"], "did you mean 'shown_[ab]'"),
    (["shown_a", "--split", "tets"], "no split 'tets'; did you mean 'test'"),
    (["shown_a", "--length", "inputs=3"], "no feature 'inputs'; choose one of: targets"),
    (["shown_a", "--length", "many"], "--length=many: give for example"),
    (["shown_a", "--module", "no_such_module"], "no module 'no_such_module'"),
  ],
)
def test_mistakes_are_told(tasks, arguments, told):
  with pytest.raises(UserError, match=told):
    show.main(["show", *arguments])


def test_the_plain_objective_follows_the_features():
  assert "seq2seq" in show.plain_objective(["inputs", "targets"]).preprocessor
  assert "causal_lm" in show.plain_objective(["targets"]).preprocessor


def test_a_task_with_a_label_is_shown(capsys):
  with toy.registered():
    seqio().TaskRegistry.add(
      "shown_label",
      source=seqio().FunctionDataSource(_labelled, splits=["train"]),
      preprocessors=[_labels.numbered(["bad", "good"]), seqio().preprocessors.tokenize],
      output_features={
        "inputs": seqio().Feature(tiny.vocabulary().to_seqio(), add_eos=False),
        "label": _labels.feature(["bad", "good"]),
      },
    )
    show.show("shown_label", examples=2)
  said = capsys.readouterr().out
  assert "a fine day" in said and "label, 1 of at most" in said
  lines = said.splitlines()
  classes = [lines[i + 1] for i, line in enumerate(lines) if line.startswith("label, ")]
  assert classes == ["1", "0"]


def _labelled(split, shuffle_files):
  rows = {"inputs": ["a fine day", "a dull one"], "label": ["good", "bad"]}
  return tensorflow().data.Dataset.from_tensor_slices(rows)
