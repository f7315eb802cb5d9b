"""GLUE (1804.07461) and SuperGLUE (1905.00537) as texts, as T5 writes them (1910.10683, D)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class Benchmark(NamedTuple):
  """How a classification becomes text.

  Attributes:
    tfds_name: the data set.
    called: the word in front of the input.
    fields: what follows it, in this order.
    labels: class number → the text to predict.
    metrics: names in `mtm.tasks._metrics`.
  """

  tfds_name: str
  called: str
  fields: Sequence[str]
  labels: Sequence[str]
  metrics: Sequence[str] = ("accuracy",)


_ENTAILED = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")
_PAIR = ("sentence1", "sentence2")
_HYPOTHESIS = ("hypothesis", "premise")

GLUE = {
  "cola": Benchmark(
    "glue/cola:1.0.0", "cola", ["sentence"], ["unacceptable", "acceptable"], ["matthews"]
  ),
  "sst2": Benchmark("glue/sst2:1.0.0", "sst2", ["sentence"], ["negative", "positive"]),
  "mrpc": Benchmark(
    "glue/mrpc:1.0.0", "mrpc", _PAIR, ["not_equivalent", "equivalent"], ["f1", "accuracy"]
  ),
  "qqp": Benchmark(
    "glue/qqp:1.0.0",
    "qqp",
    ["question1", "question2"],
    ["not_duplicate", "duplicate"],
    ["f1", "accuracy"],
  ),
  "mnli": Benchmark("glue/mnli:1.0.0", "mnli", _HYPOTHESIS, _NLI),
  "mnli_matched": Benchmark("glue/mnli_matched:1.0.0", "mnli", _HYPOTHESIS, _NLI),
  "mnli_mismatched": Benchmark("glue/mnli_mismatched:1.0.0", "mnli", _HYPOTHESIS, _NLI),
  "qnli": Benchmark("glue/qnli:1.0.0", "qnli", ["question", "sentence"], _ENTAILED),
  "rte": Benchmark("glue/rte:1.0.0", "rte", _PAIR, _ENTAILED),
}
SUPER_GLUE = {
  "boolq": Benchmark("super_glue/boolq:1.0.2", "boolq", ["passage", "question"], ["False", "True"]),
  "cb": Benchmark(
    "super_glue/cb:1.0.2",
    "cb",
    _HYPOTHESIS,
    ["entailment", "contradiction", "neutral"],
    ["mean_3class_f1", "accuracy"],
  ),
  "copa": Benchmark(
    "super_glue/copa:1.0.2",
    "copa",
    ["choice1", "choice2", "premise", "question"],
    ["choice1", "choice2"],
  ),
  "rte": Benchmark("super_glue/rte:1.0.2", "rte", _HYPOTHESIS, _ENTAILED),
  "wic": Benchmark(
    "super_glue/wic:1.0.2", "wic", ["sentence1", "sentence2", "word"], ["False", "True"]
  ),
}


def register() -> None:
  """Registers `glue_<name>_v002`, `super_glue_<name>_v102` and, for STS-B, `glue_stsb_v002`."""
  from mtm.tasks import _metrics, _t5

  named = {f"glue_{name}_v002": benchmark for name, benchmark in GLUE.items()}
  named |= {f"super_glue_{name}_v102": benchmark for name, benchmark in SUPER_GLUE.items()}
  for name, benchmark in named.items():
    metrics = [getattr(_metrics, metric) for metric in benchmark.metrics]
    postprocess = _metrics.class_id(benchmark.labels)
    _t5.text_to_text(name, benchmark.tfds_name, classify(benchmark), metrics, postprocess)
  metrics = [_metrics.pearson, _metrics.spearman]
  _t5.text_to_text("glue_stsb_v002", "glue/stsb:1.0.0", similarity, metrics, _metrics.to_float)


def classify(benchmark: Benchmark) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
  """`mnli hypothesis: ... premise: ...` → `entailment`; a hidden label becomes `<unk>`."""
  from mtm.data._tensorflow import tensorflow

  tf = tensorflow()

  def write(example: Mapping[str, Any]) -> dict[str, Any]:
    label = example["label"]
    known = tf.gather(list(benchmark.labels), tf.maximum(label, 0))
    targets = tf.where(label < 0, "<unk>", known)
    return {"inputs": _joined(example, benchmark.called, benchmark.fields), "targets": targets}

  return write


def similarity(example: Mapping[str, Any]) -> dict[str, Any]:
  """STS-B: the score, to the nearest fifth, as text such as `3.8`."""
  from mtm.data._tensorflow import tensorflow

  tf = tensorflow()
  score = tf.strings.as_string(tf.round(example["label"] * 5) / 5, precision=1)
  return {"inputs": _joined(example, "stsb", _PAIR), "targets": score}


def _joined(example: Mapping[str, Any], called: str, fields: Sequence[str]) -> Any:
  from mtm.data._tensorflow import tensorflow

  words = [called]
  for field in fields:
    words += [f"{field}:", example[field]]
  return tensorflow().strings.join(words, separator=" ")
