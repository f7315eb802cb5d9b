"""SQuAD as T5 writes it."""

from __future__ import annotations

from mtm.data import registry
from tests.tasks import mocked


def test_the_task_resolves_and_preprocesses():
  mocked.check("squad_v010_allanswers")


def test_punctuation_is_spaced_and_every_answer_is_accepted():
  task = registry.find("squad_v010_allanswers")
  answers = {"text": ["1,5 m", "15"], "answer_start": [0, 1]}
  (example, *_) = mocked.examples(
    task.name, question="How far?", context="It's  1,5 m.", answers=answers
  )
  assert example["inputs_pretokenized"] == "question: How far ?  context: It ' s 1 , 5 m . "
  assert example["targets_pretokenized"] == "1 , 5 m"
  targets = task.postprocess_fn("", example=example, is_target=True)
  assert targets == ["1 , 5 m", "15"]
  assert task.metric_fns[0]([targets], ["15"]) == {"em": 100.0, "f1": 100.0}
