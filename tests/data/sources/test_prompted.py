"""Prompted sets as SeqIO tasks and mixtures: names, texts, exemplars, clusters held out."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import pytest

from mtm.data import registry
from mtm.data.pipeline import Dataset
from mtm.data.provider import splits_of
from mtm.data.sources import prompted
from mtm.data.vocabulary import Bytes
from mtm.errors import UserError
from mtm.objectives.prefix_lm import PrefixLM
from mtm.prompts.prompted import Prompted
from mtm.prompts.template import Template

KIND = Bytes(0)
LENGTHS = {"inputs": 40, "targets": 16}
TEMPLATES = (
  Template("asked", "Is {n} odd?\n"),
  Template("told", "{n} is odd:"),
  Template("cot", "Is {n} odd?", "{rationale} So {answer}.", choices=()),
)


def rows(*numbers: int) -> list[dict[str, Any]]:
  ends = "{} ends with {}."
  return [
    {"n": n, "choices": ["no", "yes"], "gold": n % 2, "rationale": ends.format(n, n % 10)}
    for n in numbers
  ]


def odd(name: str = "odd_numbers", **splits: list[dict[str, Any]]) -> Prompted:
  known = {"train": rows(*range(10, 40)), "validation": rows(*range(50, 58)), **splits}
  readers = {split: (lambda records=records: records) for split, records in known.items()}
  return Prompted(name, "toys", readers, TEMPLATES, ("accuracy",), r"So (\w+)\.")


def texts(name: str, split: str = "validation", lengths: Any = LENGTHS) -> list[tuple[str, str]]:
  task = registry.find(name)
  found = task.get_dataset(lengths, split, shuffle=False).as_numpy_iterator()
  return [(KIND.decode(e["inputs"]), KIND.decode(e["targets"])) for e in found]


def add(data: Prompted, *shape: Any, **fields: Any) -> str:
  return prompted.task(prompted.Variant(data, *shape, vocabulary=KIND, **fields))


def test_one_template_asks_every_record():
  found = texts(add(odd(), "told"))
  assert found[:2] == [("50 is odd:", " no"), ("51 is odd:", " yes")] and len(found) == 8


def test_templates_are_drawn_for_records_and_rationales_stand_apart():
  name = add(odd())
  assert {inputs[-1] for inputs, _ in texts(name, "train")} == {"\n", ":"}
  assert texts(name) == texts(name)
  assert texts(add(odd(), reasons=True), lengths=None)[1] == (
    "Is 51 odd?", " 51 ends with 1. So yes.",
  )  # fmt: skip
  assert add(odd(), seed=1) != name


def test_tasks_turned_around_are_trained_on_and_not_measured():
  turned = Template("turned", "A number that is odd: {answer}", "{n}", (), original=False)
  data = dataclasses.replace(odd("odd_turned"), templates=(TEMPLATES[0], turned))
  name = add(data)
  assert {inputs[0] for inputs, _ in texts(name, "train")} == {"I", "A"}
  assert {inputs[0] for inputs, _ in texts(name)} == {"I"}
  assert texts(add(data, "turned"))[1] == ("A number that is odd: yes", " 51")


def test_the_first_templates_alone_can_be_taken():
  assert {inputs[-1] for inputs, _ in texts(add(odd(), templates=1), "train")} == {"\n"}


def test_names_say_what_is_asked():
  data = odd("odd_named")
  prompted.add(data)
  task = registry.find("odd_named:cot:4shot")
  assert task.source.label == "prompts, toys" and task.source.num_input_examples("train") == 30
  for name in ("odd_named", "odd_named:told", "odd_named:cot", "odd_named:8shot"):
    assert registry.find(name).name == name


def test_a_name_tells_a_task_that_nobody_registered():
  assert registry.find("is_larger:p2:3shot").name == "is_larger:p2:3shot"
  with pytest.raises(UserError, match="'is_larger' has no template 'p22'; did you mean 'p2'"):
    registry.find("is_larger:p22")
  with pytest.raises(UserError, match="'is_larger' has no template with a rationale"):
    registry.find("is_larger:cot")
  with pytest.raises(UserError, match="no task or mixture 'is_larger#p2'"):
    registry.find("is_larger#p2")


def test_exemplars_come_from_training_and_fill_the_inputs():
  name = add(odd(), "asked", 4)
  for inputs, _ in texts(name, lengths={"inputs": 100, "targets": 4}):
    *shots, question = inputs.split("\n\n")
    assert len(shots) == 4 and int(question.split()[1]) >= 50
    assert all(10 <= int(shot.split()[1]) < 40 for shot in shots)
    assert sorted(shot.split("\n")[1] for shot in shots) == ["no", "no", "yes", "yes"]
  # 41 bytes: a question of 14, the end, and one exemplar of 18.
  assert {
    inputs.count("Is") for inputs, _ in texts(name, lengths={"inputs": 41, "targets": 4})
  } == {2}
  assert {inputs.count("Is") for inputs, _ in texts(name, lengths=None)} == {5}


def test_a_training_record_is_no_exemplar_of_itself():
  for inputs, _ in texts(add(odd(train=rows(1, 2, 3)), "asked", 4), "train", None):
    numbers = [part.split()[1] for part in inputs.split("\n\n")]
    assert sorted(numbers) == ["1", "2", "3"]


def test_exemplars_longer_than_the_inputs_are_told():
  name = add(odd(), "asked", 2)
  with pytest.raises(
    UserError, match="its exemplars take 1. tokens and more each, longer than .* 9"
  ):
    list(Dataset(name, {"inputs": 10, "targets": 4}, "train").examples())


def test_hidden_answers_are_left_out_and_an_empty_split_is_told():
  hidden = [{**row, "gold": -1} for row in rows(1, 2)]
  assert len(texts(add(odd("odd_hidden", validation=[*rows(3), *hidden]), "told"))) == 1
  with pytest.raises(UserError, match="'odd_empty': its split 'validation' is empty"):
    list(Dataset(add(odd("odd_empty", validation=[]), "told"), LENGTHS, "validation").examples())


def test_predictions_are_compared_with_all_accepted_answers():
  task = registry.find(add(odd(), "cot"))
  example = next(task.get_dataset(None, "validation", shuffle=False).as_numpy_iterator())
  target = task.postprocess_fn("", example=example, is_target=True)
  said = [task.postprocess_fn(text, is_target=False) for text in ("50 ends. So no.", " no", "yes")]
  (metric,) = task.metric_fns
  assert [metric([target], [text])["accuracy"] for text in said] == [100, 100, 0]


def test_a_mixture_holds_a_cluster_out_in_one_line():
  name = prompted.mixture(
    "all_but_dates",
    ["arithmetic", "counting", "dates"],
    ["dates", "arithmetic_5da"],
    vocabulary=KIND,
  )
  rates = {
    split.name.split("#")[0]: split.rate for split in splits_of(registry.find(name), "train")
  }
  assert "arithmetic_4da" in rates and "arithmetic_5da" not in rates and "days_later" not in rates
  assert "count_all" in rates


def test_caps_proportions_and_exemplars_of_a_mixture(monkeypatch, tmp_path):
  (tmp_path / "my_odd_sets.py").write_text(
    "from tests.data.sources.test_prompted import odd, rows\n"
    "SETS = (odd('odd_a'), odd('odd_b', train=rows(*range(6))))\n"
  )
  monkeypatch.syspath_prepend(str(tmp_path))
  given = {"vocabulary": KIND, "module": "my_odd_sets"}
  name = prompted.mixture(sets=["toys"], shots=(0, 2), cap=20, **given)
  rates = {s.name.split("#")[0]: s.rate for s in splits_of(registry.find(name), "train")}
  assert rates == {"odd_a": 20, "odd_b": 6, "odd_a:2shot": 20, "odd_b:2shot": 6}
  assert prompted.mixture(sets=["toys"], shots=(0, 2), cap=20, **given) == name
  assert prompted.mixture(sets=["toys"], cap=20, **given) != name
  found = prompted.mixture(sets=["odd_a"], named=("told", "cot"), **given)
  named = {s.name.split("#")[0] for s in splits_of(registry.find(found), "train")}
  assert named == {"odd_a:told", "odd_a:cot"}
  with pytest.raises(UserError, match="set 'odd_a' has no template 'tolt'; did you mean 'told'"):
    prompted.mixture(sets=["toys"], named=("tolt",), **given)
  with pytest.raises(UserError, match="no set or cluster 'toyz'; did you mean 'toys'"):
    prompted.mixture(hold_out=["toyz"], **given)
  with pytest.raises(UserError, match=r"no set is left of \['toys'\] without \['toys'\]"):
    prompted.mixture(sets=["toys"], hold_out=["toys"], **given)
  assert registry.find("odd_a", "my_odd_sets").name == "odd_a"  # MIXTURE_OR_TASK_MODULE
  sys.modules.pop("my_odd_sets")


@pytest.mark.parametrize("inputs_end", [True, False])
def test_only_targets_are_predicted_and_the_inputs_may_have_no_end(inputs_end):
  data = Dataset(
    add(odd(), "told"), LENGTHS, "validation", 2, use_cached=False, shuffle=False, pack=False,
    inputs_end=inputs_end,
  )  # fmt: skip
  batch = next(iter(data.batches(PrefixLM(), prefetch=0)))
  ends = [1] if inputs_end else []
  asked, answer = [*KIND.encode("50 is odd:"), *ends], [*KIND.encode(" no"), 1]
  first = slice(0, len(asked) + len(answer))
  np.testing.assert_array_equal(batch["decoder_target_tokens"][0, first], [*asked, *answer])
  weights = [0] * len(asked) + [1] * len(answer)
  np.testing.assert_array_equal(batch["decoder_loss_weights"][0, first], weights)
  packed = next(iter(dataclasses.replace(data, pack=True).batches(PrefixLM(), prefetch=0)))
  assert packed["decoder_segment_ids"].max() > 1  # several examples a row
  (example,) = data.examples(1)
  assert list(example["inputs"]) == asked


def test_a_checkpoints_directory_has_its_vocabulary(tmp_path):
  KIND.save(tmp_path / "vocabulary")
  for path in (tmp_path, tmp_path / "checkpoints" / "7"):
    path.mkdir(parents=True, exist_ok=True)
    assert prompted.seqio_vocabulary(str(path)).vocab_size == KIND.vocab_size
