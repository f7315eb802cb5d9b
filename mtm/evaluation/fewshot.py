"""Few-shot evaluation: sets × templates × exemplars × seeds, asked once each and kept."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtm.errors import UserError
from mtm.evaluation import metrics
from mtm.evaluation.digests import Kept, digest, of_params
from mtm.evaluation.methods import Generate, Method, Rank, Reply
from mtm.evaluation.questions import Question, ask, identity
from mtm.evaluation.speaker import Handle, Speaker
from mtm.prompts import library
from mtm.prompts.prompted import Prompted
from mtm.prompts.shots import Shots
from mtm.prompts.template import Template

Note = Callable[[str], None]
SPLITS = ("test", "validation")


@dataclasses.dataclass(frozen=True)
class Cell:
  """One set under one template with as many exemplars of one seed, and what came of it.

  Attributes:
    set, cluster, template, split: what was asked.
    k, seed: exemplars and what drew them.
    questions: how many were asked.
    method: how.
    main: the name of the set's main metric.
    metrics: name → value; those of further labels as `<name>/<label>`.
    digests: of `task` (templates and metrics), `prompts` and `data`.
  """

  set: str
  cluster: str
  template: str
  split: str
  k: int
  seed: int
  questions: int
  method: str
  main: str
  metrics: Mapping[str, float]
  digests: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class FewShot:
  """What is asked of a model.

  Attributes:
    sets: names of sets with prompts, or of clusters of them.
    shots: numbers of exemplars.
    seeds: draw exemplars; without exemplars the first alone counts.
    templates: names; None: all that ask the set's own task directly.
    most_templates: at most so many of a set; None: all.
    split: whose records; None: "test", else "validation".
    limit: at most so many questions of a split; None: all.
    method: how everything is asked; None: what has choices by `rank`, the rest by `generate`.
    rank, generate: see `method`.
    exemplars_from: the split of exemplars.
    module: import path of a module with sets of your own.
    batch_size: lines, or texts that are written, together.
    at_once: questions between two writes; an interrupted evaluation loses so many.
    resamples: of the bootstrap.
  """

  sets: Sequence[str]
  shots: Sequence[int] = (0,)
  seeds: Sequence[int] = (0,)
  templates: Sequence[str] | None = None
  most_templates: int | None = None
  split: str | None = None
  limit: int | None = None
  method: Method | None = None
  rank: Method = Rank()  # noqa: RUF009 (frozen)
  generate: Method = Generate()  # noqa: RUF009 (frozen)
  exemplars_from: str = "train"
  module: str | None = None
  batch_size: int = 32
  at_once: int = 256
  resamples: int = metrics.RESAMPLES

  def run(self, handle: Handle, home: Path, note: Note = print) -> dict[str, Any]:
    """Asks what was not asked yet, and returns all results, JSON-able.

    Args:
      handle: the model, see `mtm.load`.
      home: where `answers.jsonl` and `results.json` go.
      note: told a line for each cell.

    Raises:
      UserError: a set, template, split or metric does not exist, a set is empty, or a question with
        its exemplars does not fit the model.
    """
    sets = self.chosen()
    speaker = Speaker(handle)
    model = {"digest": of_params(handle.params), **speaker.told()}
    kept = Kept(home / "answers.jsonl")
    cells = []
    for data in sets:
      for template in self._templates(data):
        for k in dict.fromkeys(self.shots):
          for seed in dict.fromkeys(self.seeds) if k else list(self.seeds)[:1]:
            cell = self._cell(speaker, kept, model, data, template, k, seed)
            cells.append(cell)
            note(described(cell))
    results = {"checkpoint": model, "cells": [dataclasses.asdict(c) for c in cells],
               **summary(cells)}  # fmt: skip
    if jax.process_index() == 0:
      (home / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    return results

  def chosen(self) -> list[Prompted]:
    """The sets, those of a cluster in its place. Raises UserError where there is no such name."""
    clusters = library.clusters(self.module)
    names = [name for told in self.sets for name in clusters.get(told, [told])]
    if not names:
      raise UserError("no set is asked: give SETS, such as ['copa'] or the name of a cluster")
    return [library.find(name, self.module) for name in dict.fromkeys(names)]

  def _templates(self, data: Prompted) -> list[Template]:
    if self.templates is not None:
      found = [data.template(name) for name in self.templates]
    else:
      found = [t for t in data.templates if t.original and not t.reasons] or list(data.templates)
    return found[: self.most_templates]

  def _cell(
    self, speaker: Speaker, kept: Kept, model: Mapping[str, Any], data: Prompted,
    template: Template, k: int, seed: int,
  ) -> Cell:  # fmt: skip
    split = self.split or next((name for name in SPLITS if name in data.splits), SPLITS[0])
    method = self.method or self._by_data(data, template, split)
    room = speaker.context
    if room is not None and not speaker.reads_encoder:
      room -= method.writes
    shots = Shots(k, self.exemplars_from, seed, budget=room)
    questions = list(ask(data, template, split, shots, speaker.length, self.limit))
    if not questions:
      raise UserError(f"set {data.name!r}: nobody knows the answers of its split {split!r}")
    asked_by = digest([model, repr(method)])
    replies = [reply for _, reply in self._replies(speaker, kept, method, questions, asked_by)]
    wanted = metrics.find(dict.fromkeys(method.metrics(data.metrics)))
    found = self._measured(method, questions, replies, wanted)
    main = next(iter(found))
    digests = {
      "task": digest(identity(data)), "data": digest([q.rendered.key for q in questions]),
      "prompts": digest([q.digest for q in questions]),
    }  # fmt: skip
    return Cell(
      data.name, data.cluster, template.name, split, k, seed, len(questions), repr(method), main,
      found, digests,
    )  # fmt: skip

  def _by_data(self, data: Prompted, template: Template, split: str) -> Method:
    """Choices are ranked where there are some; what reasons first has to write it down."""
    first = template.render(next(iter(data.examples(split))))
    return self.rank if first.choices and not template.reasons else self.generate

  def _replies(
    self, speaker: Speaker, kept: Kept, method: Method, questions: Sequence[Question], asked_by: str
  ) -> Iterator[tuple[str, Reply]]:
    """The id and the reply of every question; what is not kept is asked, some at once."""
    ids = [digest([asked_by, q.digest, q.rendered.key, q.template.name]) for q in questions]
    new = [(id, q) for id, q in zip(ids, questions, strict=True) if kept.get(id) is None]
    for start in range(0, len(new), self.at_once):
      part = new[start : start + self.at_once]
      replies = method.ask(speaker, [question for _, question in part])
      kept.add([_row(id, q, reply) for (id, q), reply in zip(part, replies, strict=True)])
    for id in ids:
      yield id, dict((kept.get(id) or {})["reply"])

  def _measured(
    self, method: Method, questions: Sequence[Question], replies: Sequence[Reply],
    wanted: Sequence[metrics.Metric],
  ) -> dict[str, float]:  # fmt: skip
    found: dict[str, float] = {}
    answers = [method.answers(q, reply) for q, reply in zip(questions, replies, strict=True)]
    for number, label in enumerate(answers[0]):
      own = metrics.measured(wanted, [answer[label] for answer in answers], self.resamples)
      found |= {f"{name}/{label}" if number else name: value for name, value in own.items()}
    return found


def _row(id: str, question: Question, reply: Reply) -> dict[str, Any]:
  asked, rendered = question, question.rendered
  return {
    "id": id, "set": asked.data.name, "template": asked.template.name, "key": rendered.key,
    "inputs": rendered.inputs, "choices": rendered.choices, "gold": rendered.gold,
    "references": rendered.references, "reply": reply,
  }  # fmt: skip


def summary(cells: Sequence[Cell]) -> dict[str, Any]:
  """Means of the main metrics: of a set over templates and seeds, of a cluster over those of its
  sets that have the same one.

  A set's `stderr` is that of one of its cells, for its templates ask the same records; `spread` is
  the standard deviation over templates and seeds.
  """
  sets: list[dict[str, Any]] = []
  for name, k in dict.fromkeys((cell.set, cell.k) for cell in cells):
    own = [cell for cell in cells if (cell.set, cell.k) == (name, k)]
    values = [cell.metrics[cell.main] for cell in own]
    errors = [cell.metrics.get(f"{cell.main}_stderr", math.nan) for cell in own]
    sets.append({
      "set": name, "cluster": own[0].cluster, "k": k, "metric": own[0].main,
      "value": float(np.mean(values)), "stderr": float(np.sqrt(np.mean(np.square(errors)))),
      "spread": float(np.std(values)), "cells": len(own),
    })  # fmt: skip
  clusters = []
  for name, k, metric in dict.fromkeys((r["cluster"], r["k"], r["metric"]) for r in sets):
    rows = [r for r in sets if (r["cluster"], r["k"], r["metric"]) == (name, k, metric)]
    errors = [row["stderr"] for row in rows]
    clusters.append({
      "cluster": name, "k": k, "metric": metric,
      "value": float(np.mean([row["value"] for row in rows])),
      "stderr": float(np.linalg.norm(errors)) / len(rows), "sets": len(rows),
    })  # fmt: skip
  return {"sets": sets, "clusters": clusters}


def described(cell: Cell) -> str:
  """A line about a cell."""
  error = cell.metrics.get(f"{cell.main}_stderr")
  more = "" if error is None else f" ± {error:.3f}"
  return (
    f"{cell.set} ({cell.template}, {cell.k}-shot, seed {cell.seed}): {cell.main}"
    f" {cell.metrics[cell.main]:.3f}{more} of {cell.questions} questions"
  )
