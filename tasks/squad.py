"""SQuAD 1.1 (1606.05250), under T5's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def register() -> None:
  """Registers the task `squad_v010_allanswers`: any of the annotators' answers counts."""
  from mtm.tasks import _metrics, _t5

  _t5.text_to_text(
    "squad_v010_allanswers", "squad/v1.1:3.0.0", answer, [_metrics.squad], _metrics.all_answers
  )


def answer(example: Mapping[str, Any]) -> dict[str, Any]:
  """`question: ... context: ...` → the first answer; blanks around punctuation, as T5 has them."""
  answers = _spaced(example["answers"]["text"])
  question, context = _spaced(example["question"]), _spaced(example["context"])
  return {
    "inputs": "question: " + question + " context: " + context,
    "targets": answers[0],
    "answers": answers,
    "id": example["id"],
  }


def _spaced(text: Any) -> Any:
  from mtm.data._tensorflow import tensorflow

  strings = tensorflow().strings
  text = strings.regex_replace(text, r"([^_\s\p{N}\p{L}\p{M}])", r" \1 ")
  return strings.regex_replace(text, r"\s+", " ")
