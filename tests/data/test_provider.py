from __future__ import annotations

import numpy as np
import pytest

from mtm.data._tensorflow import seqio, tensorflow
from mtm.data.provider import TaskSplit, splits_of
from mtm.errors import UserError
from tests.data.toy import EOS, VOCAB, add_task, documents

pytestmark = pytest.mark.usefixtures("tasks")


def mixture(*rates):
  return seqio().MixtureRegistry.add("toy_mix", rates)


def rates_of(provider):
  return {split.name: split.rate for split in splits_of(provider, "train")}


def test_a_task_alone_takes_part():
  assert rates_of(add_task("toy_a", documents(3, 1, 5))) == {"toy_a": 1.0}


def test_rates_may_be_numbers_functions_with_temperature_and_cap_and_mixtures():
  from functools import partial

  for name, count in (("toy_a", 100), ("toy_b", 16), ("toy_c", 4)):
    add_task(name, documents(count, 1, 5))
  by_size = seqio().mixing_rate_num_examples
  assert rates_of(seqio().MixtureRegistry.add("toy_m1", [("toy_a", 0.5), ("toy_b", 2)])) == {
    "toy_a": 0.5,
    "toy_b": 2.0,
  }
  warm = partial(by_size, temperature=2.0, maximum=64)
  names = ["toy_a", "toy_b", "toy_c"]
  assert rates_of(seqio().MixtureRegistry.add("toy_m2", names, default_rate=warm)) == {
    "toy_a": 8.0,
    "toy_b": 4.0,
    "toy_c": 2.0,
  }
  nested = seqio().MixtureRegistry.add("toy_m3", [("toy_m1", 10.0), ("toy_c", by_size)])
  assert rates_of(nested) == {"toy_a": 2.0, "toy_b": 8.0, "toy_c": 4.0}


def test_a_rate_of_zero_leaves_out():
  add_task("toy_a", documents(3, 1, 5))
  add_task("toy_b", documents(3, 1, 5))
  assert rates_of(mixture(("toy_a", 0.0), ("toy_b", 1.0))) == {"toy_b": 1.0}


@pytest.mark.parametrize(
  "rate, told", [(0.0, "every rate is 0"), (-1.0, "is -1.0"), (float("nan"), "is nan")]
)
def test_senseless_rates_are_told(rate, told):
  add_task("toy_a", documents(3, 1, 5))
  with pytest.raises(UserError, match=told):
    splits_of(mixture(("toy_a", rate)), "train")


def test_a_rate_by_size_of_a_source_that_does_not_tell_its_size_is_told():
  add_task("toy_a", documents(3, 1, 5), known=False)
  with pytest.raises(UserError, match="'toy_a' cannot be computed.*num_input_examples"):
    splits_of(mixture(("toy_a", seqio().mixing_rate_num_examples)), "train")


def test_a_split_that_does_not_exist_is_told_with_the_nearest():
  task = add_task("toy_a", documents(3, 1, 5))
  with pytest.raises(UserError, match="'toy_a' has no split 'valid'.*did you mean 'validation'"):
    splits_of(task, "valid")
  assert splits_of(task, "train[:50%]")[0].split == "train[:50%]"


def test_examples_are_int32_in_the_order_of_the_source():
  texts = documents(4, 1, 5)
  split = splits_of(add_task("toy_a", texts), "train")[0]
  found = list(split.examples(("targets",)))
  assert [e["targets"].tolist() for e in found] == [[*ids, EOS] for ids in texts]
  assert {e["targets"].dtype for e in found} == {np.dtype(np.int32)}


def test_a_source_that_breaks_is_told_in_one_sentence():
  def read(split, shuffle_files):
    def generate():
      yield [3]
      raise OSError("the cable is cut")

    return (
      tensorflow()
      .data.Dataset.from_generator(
        generate, output_signature=tensorflow().TensorSpec([None], "int32")
      )
      .map(lambda ids: {"targets": ids})
    )

  task = seqio().TaskRegistry.add(
    "toy_broken",
    source=seqio().FunctionDataSource(read, splits=["train"]),
    preprocessors=[],
    output_features={"targets": seqio().Feature(seqio().PassThroughVocabulary(9))},
    metric_fns=[],
  )
  found = TaskSplit(task, "train").examples(("targets",))
  with pytest.raises(UserError, match="'toy_broken', split 'train': example .*the cable is cut"):
    list(found)


def test_an_error_of_ours_beneath_tensorflow_is_told_as_it_is():
  def read(split, shuffle_files):
    def generate():
      raise UserError("notes.txt:7: not UTF-8; convert the file")
      yield [3]

    return (
      tensorflow()
      .data.Dataset.from_generator(
        generate, output_signature=tensorflow().TensorSpec([None], "int32")
      )
      .map(lambda ids: {"targets": ids})
    )

  task = seqio().TaskRegistry.add(
    "toy_broken",
    source=seqio().FunctionDataSource(read, splits=["train"]),
    preprocessors=[],
    output_features={"targets": seqio().Feature(seqio().PassThroughVocabulary(9))},
    metric_fns=[],
  )
  with pytest.raises(UserError, match=r"^notes\.txt:7: not UTF-8; convert the file$"):
    list(TaskSplit(task, "train").examples(("targets",)))


def test_text_that_nobody_tokenises_is_told():
  def read(split, shuffle_files):
    return tensorflow().data.Dataset.from_tensors({"targets": "text"})

  task = seqio().TaskRegistry.add(
    "toy_text",
    source=seqio().FunctionDataSource(read, splits=["train"]),
    preprocessors=[],
    output_features={
      "targets": seqio().Feature(
        seqio().PassThroughVocabulary(9), rank=0, dtype=tensorflow().string
      )
    },
    metric_fns=[],
  )
  with pytest.raises(UserError, match="must be a list of token ids"):
    list(TaskSplit(task, "train").examples(("targets",)))


def test_facts_of_the_vocabulary():
  add_task("toy_a", documents(3, 1, 5), documents(3, 1, 5))
  facts = splits_of(seqio().TaskRegistry.get("toy_a"), "train")[0].tokens(("inputs", "targets"))
  assert (facts.vocab_size, facts.extra_ids) == (VOCAB, 0)
  assert facts.eos == {"inputs": EOS, "targets": EOS}
  assert {0, EOS} <= set(facts.special)


def test_an_end_that_a_feature_does_not_want_is_none():
  feature = seqio().Feature(seqio().ByteVocabulary(), add_eos=False)
  task = seqio().TaskRegistry.add(
    "toy_bytes",
    source=seqio().FunctionDataSource(lambda split, shuffle_files: None, splits=["train"]),
    preprocessors=[],
    output_features={"targets": feature},
    metric_fns=[],
  )
  assert TaskSplit(task, "train").tokens(("targets",)).eos == {"targets": None}


def test_inputs_of_another_vocabulary_are_told():
  other = seqio().Feature(seqio().ByteVocabulary())
  task = seqio().TaskRegistry.add(
    "toy_two",
    source=seqio().FunctionDataSource(lambda split, shuffle_files: None, splits=["train"]),
    preprocessors=[],
    output_features={
      "inputs": other,
      "targets": seqio().Feature(seqio().PassThroughVocabulary(9)),
    },
    metric_fns=[],
  )
  with pytest.raises(UserError, match="different vocabularies"):
    TaskSplit(task, "train").tokens(("inputs", "targets"))


def test_the_fingerprint_follows_the_tasks_data_and_vocabulary():
  def of(**kwargs):
    from tests.data.toy import registered

    with registered():
      return TaskSplit(add_task("toy_a", **kwargs), "train").fingerprint()

  texts = documents(3, 1, 5)
  assert of(targets=texts) == of(targets=texts)
  other = seqio().PassThroughVocabulary(VOCAB + 1, eos_id=EOS)
  assert len({of(targets=texts), of(targets=texts[:2]), of(targets=texts, vocabulary=other)}) == 3
