"""`mtm tasks`: which tasks there are, and what one of them looks like to a model."""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtm.data import registry
from mtm.data.pipeline import Dataset
from mtm.data.vocabulary import Vocabulary, from_seqio
from mtm.errors import UserError, nearest

LENGTH = 512  # tokens of a feature whose length nobody tells
SHOWN_TOKENS = 32
SHOWN_CHARACTERS = 400
SHOWN_TASKS = 8  # of a mixture, by name


class Row(NamedTuple):
  """A line of `mtm tasks`."""

  name: str
  kind: str
  source: str
  features: str
  metrics: str


class Packed(NamedTuple):
  """What batches are made of.

  Attributes:
    rows: how many were looked at.
    padding: feature side ("encoder", "decoder") → share of its positions that hold nothing.
    segments: side → pieces a row, on average.
    proportions: see `RowBatches.proportions`.
  """

  rows: int
  padding: Mapping[str, float]
  segments: Mapping[str, float]
  proportions: Mapping[str, Mapping[str, float]]


def list_tasks(module: str | None = None) -> list[Row]:
  """Every registered task and mixture by name, `module`'s included.

  Raises:
    UserError: there is no such module.
  """
  from mtm.data._tensorflow import seqio

  registry.register(module)
  rows = [_task_row(seqio().TaskRegistry.get(name)) for name in seqio().TaskRegistry.names()]
  rows += [_mixture_row(seqio().MixtureRegistry.get(n)) for n in seqio().MixtureRegistry.names()]
  return sorted(rows)


def packed(data: Dataset, features: Sequence[str]) -> Packed:
  """Statistics of the batches of `data` under the plain objective for these features.

  Raises:
    UserError: as `Dataset.batches` does.
  """
  label = registry.find(data.mixture_or_task_name, data.module).output_features.get("label")
  classes = None if label is None else label.vocabulary.vocab_size
  batches = data.batches(plain_objective(features, classes), prefetch=0)
  held: dict[str, list[np.ndarray]] = {}
  for batch in batches:
    for name, values in batch.items():
      if name.endswith("_segment_ids"):
        held.setdefault(name.removesuffix("_segment_ids"), []).append(values)
  sides = {side: np.concatenate(values) for side, values in held.items()}
  # Rows that only fill up the last batch do not count.
  used = np.any([ids.any(axis=1) for ids in sides.values()], axis=0)
  sides = {side: ids[used] for side, ids in sides.items()}
  return Packed(
    int(used.sum()),
    {side: float(np.mean(ids == 0)) for side, ids in sides.items()},
    {side: float(np.mean(ids.max(axis=1))) for side, ids in sides.items()},
    batches.proportions(),
  )


def plain_objective(features: Sequence[str], classes: int | None = None) -> Any:
  """Classification where there are classes, text to text where there are inputs, else causal
  language modelling."""
  if classes is not None:
    # Where the vocabulary has no tokens around a text, padding stands there: it is counted alike.
    return types.SimpleNamespace(
      preprocessor="mtm.data.preprocessors.classification:build", classes=classes,
      pairs="second" in features, token_types=False, separators=1, begin_id=0, end_id=0,
    )  # fmt: skip
  name = "seq2seq" if "inputs" in features else "causal_lm"
  return types.SimpleNamespace(preprocessor=f"mtm.data.preprocessors.{name}:build")


def show(
  name: str,
  split: str | None = None,
  lengths: Mapping[str, int] | None = None,
  examples: int = 2,
  rows: int = 256,
  module: str | None = None,
) -> None:
  """Prints what a task or mixture is, some examples of each task, and how they pack.

  Args:
    name: as registered.
    split: None: "train" where there is one, else the first.
    lengths: feature → tokens; features that are not told get 512.
    examples: how many of each task.
    rows: how many packed rows to look at; 0: none.
    module: import path of a module that registers tasks.

  Raises:
    UserError: the task, the split or a feature is unknown, or the data cannot be read.
  """
  from mtm.data._tensorflow import seqio

  provider = registry.find(name, module)
  tasks = seqio().get_subtasks(provider)
  features = provider.output_features
  for feature in lengths or {}:
    if feature not in features:
      raise UserError(f"{name!r} has no feature {feature!r}{nearest(feature, features)}")
  told = {feature: (lengths or {}).get(feature, LENGTH) for feature in features}
  splits = list(dict.fromkeys(s for task in tasks for s in task.splits))
  split = split or ("train" if "train" in splits else splits[0])
  data = Dataset(
    name, told, split, min(rows, 16) or 1, shuffle=False, use_cached=False, module=module,
    num_epochs=1, num_batches=max(rows // 16, 1),
  )  # fmt: skip
  stats = packed(data, list(features)) if rows else None
  console = _console()
  _print_summary(console, provider, tasks, splits)
  for task in tasks:
    if split.split("[")[0] in task.splits:
      _print_examples(console, task, split, told, examples)
  if stats:
    _print_packed(console, stats, told, split)


def main(argv: Sequence[str] | None = None) -> int:
  """The command line, see `mtm tasks --help`; returns the exit code."""
  arguments = _parser().parse_args(argv)
  if arguments.verb == "show":
    show(
      arguments.name,
      arguments.split,
      _lengths(arguments.name, arguments.length, arguments.module),
      arguments.examples,
      arguments.rows,
      arguments.module,
    )
    return 0
  rows = list_tasks(arguments.module)
  _print_list(rows if arguments.all else [row for row in rows if ":" not in row.name])
  if not arguments.all:
    _console().print(
      "A set of prompts NAME is also asked by one template, NAME:TEMPLATE, after exemplars, "
      "NAME:4shot, or for a rationale, NAME:cot.\n`mtm tasks show NAME` names its templates, "
      "`mtm tasks --all` lists every task."
    )
  return 0


def _parser() -> argparse.ArgumentParser:
  module = argparse.ArgumentParser(add_help=False)
  module.add_argument("--module", help="import path of a module with tasks of your own")
  parser = argparse.ArgumentParser("mtm tasks", description=__doc__, parents=[module])
  parser.add_argument("--all", action="store_true", help="list a set's templates too")
  verbs = parser.add_subparsers(dest="verb")
  one = verbs.add_parser("show", parents=[module], help="look into a task or mixture")
  one.add_argument("name")
  one.add_argument("--split", help="such as validation, or train[:10%%]")
  one.add_argument("--examples", type=int, default=2, help="of each task (default 2)")
  one.add_argument("--rows", type=int, default=256, help="to pack for the statistics (default 256)")
  one.add_argument(
    "--length",
    action="append",
    default=[],
    metavar="[FEATURE=]TOKENS",
    help=f"tokens a row, of one feature or of all (default {LENGTH})",
  )
  return parser


def _lengths(name: str, told: Sequence[str], module: str | None) -> dict[str, int]:
  """`inputs=512` or `512`, which means every feature, as a mapping."""
  lengths: dict[str, int] = {}
  for text in told:
    feature, _, number = text.rpartition("=")
    if not number.isdecimal() or not int(number):
      raise UserError(f"--length={text}: give for example --length=512 or --length=inputs=512")
    names = [feature] if feature else list(registry.find(name, module).output_features)
    lengths |= dict.fromkeys(names, int(number))
  return lengths


def _task_row(task: Any) -> Row:
  source = getattr(getattr(task.source, "tfds_dataset", None), "name", None)
  metrics = sorted({_called(f) for f in task.metric_fns})
  return Row(
    task.name,
    "task",
    f"tfds {source}" if source else getattr(task.source, "label", type(task.source).__name__),
    " ".join(task.output_features),
    " ".join(metrics),
  )


def _mixture_row(mixture: Any) -> Row:
  names = [task.name for task in mixture.tasks]
  few = len(names) <= SHOWN_TASKS
  told = ", ".join(names) if few else f"{len(names)} tasks, {names[0]} to {names[-1]}"
  return Row(mixture.name, "mixture", told, " ".join(mixture.output_features), "")


def _called(metric: Any) -> str:
  return getattr(metric, "__name__", type(metric).__name__)


def _console() -> Any:
  from rich.console import Console

  # Piped output is not cut to a terminal's width.
  return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def _table(*columns: str) -> Any:
  from rich import box
  from rich.table import Table

  table = Table(box=box.SIMPLE, pad_edge=False)
  for column in columns:
    table.add_column(column, overflow="fold", justify="left")
  return table


def _print_list(rows: Sequence[Row]) -> None:
  from rich.markup import escape

  table = _table(*Row._fields)
  for row in rows:
    table.add_row(*map(escape, row))
  _console().print(table)


def _print_summary(
  console: Any, provider: Any, tasks: Sequence[Any], splits: Sequence[str]
) -> None:
  from mtm.data._tensorflow import seqio

  table = _table("feature", "vocabulary", "ids", "sentinels", "ends with")
  for name, feature in provider.output_features.items():
    vocabulary = feature.vocabulary
    end = f"{vocabulary.eos_id}" if feature.add_eos else "nothing"
    ids, extra = str(vocabulary.vocab_size), str(vocabulary.extra_ids)
    table.add_row(name, type(from_seqio(vocabulary)).__name__, ids, extra, end)
  what = "task" if list(tasks) == [provider] else f"mixture of {len(tasks)} tasks"
  console.print(f"[bold]{provider.name}[/bold]: {what}; splits: {', '.join(splits)}")
  ways = [n for n in seqio().TaskRegistry.names() if n.startswith(f"{provider.name}:")]
  if ways:
    console.print(f"asked in other ways: {', '.join(sorted(ways))}", soft_wrap=True)
  console.print(table)


def _print_examples(
  console: Any, task: Any, split: str, lengths: Mapping[str, int], count: int
) -> None:
  from rich.markup import escape

  data = Dataset(task.name, lengths, split)
  for number, example in enumerate(data.examples(count)):
    console.print(f"[bold]{task.name}, {split}, example {number}[/bold]")
    for name, feature in task.output_features.items():
      vocabulary = from_seqio(feature.vocabulary)
      ids = [int(i) for i in np.atleast_1d(example[name])]
      text = vocabulary.decode(ids)
      more = " ..." if len(text) > SHOWN_CHARACTERS else ""
      console.print(f"[cyan]{name}[/cyan], {len(ids)} of at most {lengths[name]} tokens:")
      console.print(escape(text[:SHOWN_CHARACTERS] + more), soft_wrap=True)
      console.print(f"[dim]{escape(_tokenised(vocabulary, ids))}[/dim]", soft_wrap=True)
    console.print()


def _tokenised(vocabulary: Vocabulary, ids: Sequence[int]) -> str:
  """Each id with what it stands for: `37 'def' 12 ' '`."""
  shown = []
  for i in ids[:SHOWN_TOKENS]:
    special = i in (vocabulary.eos_id, vocabulary.pad_id)
    shown.append(f"{i} {'end' if special else repr(vocabulary.decode([i]))}")
  return "  ".join(shown) + ("  ..." if len(ids) > SHOWN_TOKENS else "")


def _print_packed(console: Any, stats: Packed, lengths: Mapping[str, int], split: str) -> None:
  told = ", ".join(f"{name} {length}" for name, length in lengths.items())
  if len(stats.proportions) > 1:
    table = _table("task", "rate", "realised", "examples", "tokens")
    for name, row in stats.proportions.items():
      counts = (f"{int(row['examples']):,}", f"{int(row['tokens']):,}")
      table.add_row(name, f"{row['rate']:.2%}", f"{row['realised']:.2%}", *counts)
    console.print(table)
  console.print(f"[bold]{split}, {stats.rows} packed rows of {told}[/bold]")
  table = _table("side", "padding", "pieces a row")
  for side, share in stats.padding.items():
    table.add_row(side, f"{share:.2%}", f"{stats.segments[side]:.2f}")
  console.print(table)


if __name__ == "__main__":
  from mtm import cli

  sys.exit(cli.main(["tasks", *sys.argv[1:]]))
