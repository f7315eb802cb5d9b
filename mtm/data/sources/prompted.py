"""Prompted sets as SeqIO tasks: one for each template, one of sampled templates, exemplars, chain
of thought; and mixtures of them.

| name | is asked |
|---|---|
| `SET` | by a template that is drawn for each record |
| `SET:TEMPLATE` | by this template |
| `SET:cot` | by a template that wants a rationale before the answer |
| `SET:4shot`, `SET:cot:4shot`, ... | after up to four exemplars, as many as fit into the inputs |

`inputs` is the question, `targets` the answer with what joins the two.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mtm.data import registry
from mtm.data.sources import files, mixtures
from mtm.errors import UserError, nearest
from mtm.prompts import library
from mtm.prompts.prompted import Prompted
from mtm.prompts.shots import TRIES, Shots
from mtm.prompts.template import Rendered, Template, digest

Metric = Callable[[Sequence[Any], Sequence[Any]], Mapping[str, float]]
Metrics = Mapping[str, Metric]  # name in `Prompted.metrics` → function of references, predictions

SHOTS = (1, 2, 4, 8)  # exemplars of the tasks that are registered for every set
HELD = 50_000  # records of a split that are rendered at once, not as they are read
CAP = 3_000  # examples that a task counts for at most, as FLAN has it (2109.01652, §2.3)

_metrics: dict[str, Metric] = {}
_ours: dict[str, Any] = {}  # task → its Variant


@dataclasses.dataclass(frozen=True)
class Variant:
  """How the records of a set become examples of a task.

  Attributes:
    data: the set.
    template: a template's name; None: one is drawn for each record.
    shots: exemplars before a question.
    reasons: whether the templates to draw from are those with a rationale.
    templates: draws from the first so many; None: from all.
    seed: draws templates and exemplars.
    vocabulary: None: that of the standard library; else the path of a checkpoint, or an object, see
      `files.jsonl_task`.
  """

  data: Prompted
  template: str | None = None
  shots: int = 0
  reasons: bool = False
  templates: int | None = None
  seed: int = 0
  vocabulary: Any = None

  @property
  def name(self) -> str:
    """The task's name."""
    parts = [self.data.name]
    parts += [self.template] if self.template else ["cot"] if self.reasons else []
    parts += [f"{self.shots}shot"] if self.shots else []
    return ":".join(parts) + self._mark

  @property
  def _mark(self) -> str:
    """Tells apart tasks that differ in what their names do not say."""
    if self.templates is None and not self.seed and self.vocabulary is None:
      return ""
    told = repr((self.templates, self.seed, self.vocabulary))
    return f"#{hashlib.sha256(told.encode()).hexdigest()[:8]}"

  @property
  def label(self) -> str:
    """What `mtm tasks` says of it."""
    return f"prompts, {self.data.cluster}"

  def records(self, split: str) -> Iterator[dict[str, str]]:
    """Examples, those of records whose answer nobody knows left out."""
    shots = Shots(self.shots, "train", self.seed)
    among = self._among(split)
    empty = True
    for example in self.data.examples(split):
      template = self.data.sampled(digest(example), self.seed, among)
      question = template.render(example)
      if not question.targets:
        continue
      empty = False
      record = {
        "inputs": question.inputs,
        "targets": question.continuation(question.targets),
        "references": json.dumps(question.references),
      }
      if self.shots:
        record["exemplars"] = json.dumps(self._exemplars(shots, template, question))
      yield record
    if empty:
      raise UserError(f"task {self.name!r}: no record of its split {split!r} has an answer")

  def _among(self, split: str) -> Sequence[Template]:
    """The templates to draw from; those turned around are learned from, and never measured by."""
    if self.template:
      return [self.data.template(self.template)]
    among = self.data.asking(self.reasons)[: self.templates]
    originals = [template for template in among if template.original]
    return among if split == "train" else originals or among

  def _exemplars(self, shots: Shots, template: Template, question: Rendered) -> list[str]:
    """The first of the exemplars to choose from: some may be too long."""
    found = itertools.islice(
      shots.exemplars(self.data, template, question), self.shots + TRIES // 4
    )
    return [exemplar.text + shots.separator for exemplar in found]


def measured(metrics: Metrics) -> None:
  """Tells what the metrics that sets name are; a name that is not told counts exact answers."""
  _metrics.update(metrics)


def add(data: Prompted) -> None:
  """Registers the tasks of a set, now or when tasks are first looked up."""
  variants = [Variant(data), *(Variant(data, template.name) for template in data.templates)]
  if any(template.reasons for template in data.templates):
    variants.append(Variant(data, reasons=True))
  if "train" in data.splits:
    variants += [
      dataclasses.replace(variant, shots=k)
      for variant in variants if variant.template is None for k in SHOTS
    ]  # fmt: skip
  for variant in variants:
    task(variant)


def task(variant: Variant) -> str:
  """Registers a task, now or when tasks are first looked up, and returns its name.

  Calling it again with an equal variant does nothing; another one of the same name replaces it.

  Raises:
    UserError: the set has no such template, or none with a rationale; when tasks are looked up: the
      name is taken.
  """
  if variant.template:
    variant.data.template(variant.template)
  else:
    variant.data.asking(variant.reasons)
  registry.declare(lambda: _add(variant))
  return variant.name


def named(name: str, module: str | None = None) -> bool:
  """Registers the task that a name such as `rte:p2:5shot` tells; False where it tells none.

  Raises:
    UserError: the set is known, and has no such template or none with a rationale.
  """
  found = re.fullmatch(r"(\w+)(?::(?!\d+shot)(\w+))?(?::(\d+)shot)?", name)
  known = library.sets(module)
  if found is None or found[1] not in known:
    return False
  reasons = found[2] == "cot"
  template = None if reasons else found[2]
  task(Variant(known[found[1]], template, int(found[3] or 0), reasons))
  return True


def mixture(
  name: str | None = None,
  sets: Sequence[str] | None = None,
  hold_out: Sequence[str] = (),
  shots: Sequence[int] = (0,),
  reasons: bool = False,
  templates: int | None = None,
  named: Sequence[str] = (),
  cap: int | None = CAP,
  temperature: float = 1.0,
  seed: int = 0,
  vocabulary: Any = None,
  module: str | None = None,
) -> str:
  """Registers a mixture of sets in proportion to their sizes, and returns its name.

  Args:
    name: what MIXTURE_OR_TASK_NAME will say; None: a name that tells these arguments apart.
    sets: names of sets, or of clusters; None: all that need no download.
    hold_out: sets and clusters that are left out, such as ["nli"]; of a cluster every set.
    shots: numbers of exemplars; each gets an equal share of every set.
    reasons: whether sets that have rationales are also asked for them.
    templates: at most so many of each set, the first ones; None: all.
    named: instead: names of templates, which every set must have; each is a task of its own.
    cap: a task counts for at most so many examples; None: for all it has.
    temperature: see `mixtures.mixture`.
    seed: draws templates and exemplars.
    vocabulary: None: that of the standard library; else the path of a checkpoint.
    module: the import path of a module with `SETS` of your own.

  Raises:
    UserError: no set or cluster of this name, a set has no template that is named, or nothing is
      left.
  """
  made: list[str] = []
  for data in _chosen(sets, hold_out, module):
    kinds = [False, True] if reasons and any(t.reasons for t in data.templates) else [False]
    asked: list[tuple[str | None, bool]] = [(name, False) for name in named]
    made += [
      task(Variant(data, template, k, kind, templates, seed, vocabulary)) for k in shots
      for template, kind in asked or [(None, kind) for kind in kinds]
    ]  # fmt: skip
  told = json.dumps([made, cap, temperature])
  name = name or f"prompts_{hashlib.sha256(told.encode()).hexdigest()[:8]}"
  mixtures.mixture(name, list(dict.fromkeys(made)), temperature=temperature, cap=cap)
  return name


def exact(targets: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
  """Per cent of predictions that are one of their accepted answers."""
  right = [guess in answers for answers, guess in zip(targets, predictions, strict=True)]
  return {"accuracy": 100 * sum(right) / max(len(right), 1)}


def _chosen(
  sets: Sequence[str] | None, hold_out: Sequence[str], module: str | None
) -> list[Prompted]:
  """The sets that names of sets and clusters mean, without those held out."""
  known, clusters = library.sets(module), library.clusters(module)
  for name in (*(sets or ()), *hold_out):
    if name not in known and name not in clusters:
      raise UserError(f"no set or cluster {name!r}{nearest(name, {*known, *clusters})}")
  wanted = [data for data in known.values() if data.local] if sets is None else [
    data for data in known.values() if data.name in sets or data.cluster in sets
  ]  # fmt: skip
  left = [d for d in wanted if d.name not in hold_out and d.cluster not in hold_out]
  if not left:
    raise UserError(f"no set is left of {list(sets or ())} without {list(hold_out)}: hold out less")
  return left


def _add(variant: Variant) -> None:
  """Registers with SeqIO."""
  from mtm.data._tensorflow import seqio
  from mtm.data.sources import _records

  name, data = variant.name, variant.data
  if _ours.get(name) == variant:
    return
  tasks, mixed = seqio().TaskRegistry.names(), seqio().MixtureRegistry.names()
  if name not in _ours and (name in tasks or name in mixed):
    raise UserError(f"a task or mixture {name!r} is registered already: rename the set of prompts")
  if name in tasks:
    seqio().TaskRegistry.remove(name)
  keys = ["inputs", "targets", "references", *(["exemplars"] if variant.shots else [])]
  origin = _records.Origin(
    variant.records, list(data.splits), keys, variant.label, data.version, data.size
  )

  def dataset(split: str) -> Any:
    few = data.sizes.get(split, 0) <= HELD
    return (origin.held if few else origin.streamed)(split)

  vocabulary = seqio_vocabulary(variant.vocabulary)
  feature = seqio().Feature(vocabulary, add_eos=True)
  exemplars = functools.partial(filled, shots=variant.shots, where=f"task {name!r}")
  steps = [exemplars] if variant.shots else []
  try:
    seqio().TaskRegistry.add(
      name,
      source=_records.source(origin, dataset),
      preprocessors=[
        *steps, seqio().preprocessors.tokenize, seqio().preprocessors.append_eos
      ],
      output_features={"inputs": feature, "targets": feature},
      metric_fns=[_metrics.get(metric, exact) for metric in data.metrics],
      postprocess_fn=functools.partial(_answer, data),
    )  # fmt: skip
  except ValueError as e:
    raise UserError(f"task {name!r}: {e}") from e
  _ours[name] = variant


def filled(dataset: Any, sequence_length: Any, output_features: Any, shots: int, where: str) -> Any:
  """A SeqIO preprocessor: `exemplars` (a JSON list) and `inputs` become `inputs`.

  Args:
    dataset: a `tf.data.Dataset` of texts.
    sequence_length: feature → tokens; of the exemplars so many are taken as `inputs` has room for.
    output_features: the task's.
    shots: how many at most.
    where: names the task, for errors.
  """
  from mtm.data._tensorflow import tensorflow
  from mtm.data.vocabulary import from_seqio

  tf, feature = tensorflow(), output_features["inputs"]
  encode = from_seqio(feature.vocabulary).encode
  budget = (sequence_length or {}).get("inputs")
  drawing = Shots(shots, strict=False, budget=budget and budget - feature.add_eos)

  def length(text: str) -> int:
    return len(encode(text))

  def joined(inputs: bytes, exemplars: bytes) -> bytes:
    question = inputs.decode()
    taken = 0 if budget is None else length(question)
    drawn = drawing.fitted(json.loads(exemplars), taken, length, where)
    return ("".join(drawn) + question).encode()

  def one(example: Any) -> Any:
    text = tf.numpy_function(joined, [example["inputs"], example["exemplars"]], tf.string)
    rest = {name: value for name, value in example.items() if name != "exemplars"}
    return {**rest, "inputs": tf.ensure_shape(text, ())}

  return dataset.map(one)


def seqio_vocabulary(vocabulary: Any) -> Any:
  """A SeqIO vocabulary of what `mixture` takes as one.

  Raises:
    UserError: the directory has no tokenizer, or one that cannot be read.
  """
  if isinstance(vocabulary, str | os.PathLike) and pathlib.Path(vocabulary).is_dir():
    return _of_directory(str(vocabulary))
  return _standard() if vocabulary is None else files.seqio_vocabulary(vocabulary)


@functools.cache
def _standard() -> Any:
  """One for the thousands of tasks that have no vocabulary of their own."""
  return files.seqio_vocabulary(None)


@functools.cache
def _of_directory(path: str) -> Any:
  """The vocabulary that a run saved, or that of a published checkpoint."""
  from mtm.data import vocabularies, vocabulary

  folder = pathlib.Path(path)
  for home in (folder, folder.parent.parent):  # a MODEL_DIR, or one checkpoint of it
    if (home / "vocabulary" / "vocabulary.json").is_file():
      return vocabulary.load(home / "vocabulary").to_seqio()
  return vocabularies.from_directory(folder).to_seqio()


def _answer(data: Prompted, text: str, example: Any = None, is_target: bool = False) -> Any:
  """A SeqIO postprocessor: accepted answers as the target, the final answer as the prediction."""
  if is_target:
    return json.loads(example["references"].decode())
  return data.extracted(text)
