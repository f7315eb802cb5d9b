"""`MODEL_DIR/card.md`: what a model was made of, so that somebody else can judge and repeat it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mtm.report import _files, _words

FILE = "card.md"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "seqio", "numpy")


@dataclasses.dataclass(frozen=True)
class Card:
  """The facts of a model card.

  Attributes:
    name: the model's, usually that of its directory.
    model: what was built, in words or as a Python expression.
    parameters: how many numbers it holds.
    objective: what it was trained to predict.
    data: task → `rate` (asked for, unnormalised), `realised` (share of the examples drawn),
      `examples`, `tokens`; what is missing shows as a dash.
    split: the split that was trained on, with its mixture or task.
    licences: task → the licence of its data, where known.
    step, tokens: steps taken and target tokens trained on, over all runs of the directory.
    held_out: split → what was measured → value.
    ledger: what took time → seconds, over all runs of the directory.
    versions: see `versions`.
  """

  name: str
  model: str
  parameters: int
  objective: str
  data: Mapping[str, Mapping[str, float]]
  split: str
  licences: Mapping[str, str]
  step: int
  tokens: float
  held_out: Mapping[str, Mapping[str, float]]
  ledger: Mapping[str, float]
  versions: Mapping[str, str]

  def text(self) -> str:
    """The card in Markdown."""
    total = sum(self.ledger.values())
    ledger = {**self.ledger, "together": total}
    parts = [
      f"# {self.name}",
      f"Trained for {self.step:,} steps on {self.tokens:,.0f} target tokens.",
      "## Model",
      _table(
        ("", ""),
        [
          ("model", f"`{self.model}`"),
          ("parameters", f"{self.parameters:,}"),
          ("objective", f"`{self.objective}`"),
        ],
      ),
      "## Data",
      f"`{self.split}`. The rates are those asked for. Shares, examples and tokens are those drawn"
      " from each task, the inputs and what lies ready for the next steps included.",
      _table(
        ("task", "rate", "share", "examples", "tokens", "licence"),
        [self._task(name, facts) for name, facts in self.data.items()],
      ),
      "## Held out",
      self._held_out(),
      "## Licence",
      "The weights carry no licence until whoever trained them names one. It has to agree with the"
      " licences of the data above.",
      "## Wall time",
      _table(("", "time"), [(name, _words.duration(s)) for name, s in ledger.items()]),
      "Summed over all runs that continued this directory.",
      "## Versions",
      _table(("", ""), list(self.versions.items())),
      "## Reproduce",
      "`config.gin` beside this card is the whole resolved configuration:",
      "```\npython -m mtm.train --gin_file=config.gin --gin.MODEL_DIR=\"'another/directory'\"\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"

  def write(self, model_dir: str | os.PathLike[str]) -> Path:
    """Writes `model_dir/card.md` atomically and returns its path.

    Raises:
      UserError: it cannot be written.
    """
    return _files.write(Path(model_dir) / FILE, self.text().encode())

  def _task(self, name: str, facts: Mapping[str, float]) -> Sequence[str]:
    forms = {"rate": "g", "realised": ".1%", "examples": ",.0f", "tokens": ",.0f"}
    told = [format(facts[key], form) if key in facts else "-" for key, form in forms.items()]
    return [f"`{name}`", *told, self._licence(name)]

  def _licence(self, name: str) -> str:
    """That of a task; `set:template` and `set#mark` are other ways to ask the records of `set`."""
    return self.licences.get(name) or self.licences.get(re.split("[:#]", name)[0], "not known")

  def _held_out(self) -> str:
    rows = [
      (f"`{split}`", metric.replace("_", " "), f"{value:.4f}")
      for split, metrics in self.held_out.items()
      for metric, value in metrics.items()
    ]
    return _table(("split", "measure", "value"), rows) if rows else "Nothing was evaluated."


def versions(device: str, mtm: str) -> dict[str, str]:
  """What ran: Python, mtm, the libraries that decide results, the platform and the device.

  Args:
    device: what was trained on, such as `1 × cpu` or `8 × TPU v4`.
    mtm: mtm's version.
  """
  found = {"python": platform.python_version(), "mtm": mtm}
  for package in _PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return {**found, "platform": platform.platform(), "device": device}


def added(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
  """Two ledgers as one: seconds of the same name add up, in the order of `now`."""
  return {name: before.get(name, 0.0) + now.get(name, 0.0) for name in {**now, **before}}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A Markdown table; empty without rows."""
  lines = [_row(row) for row in rows]
  return "\n".join([_row(head), _row(["---"] * len(head)), *lines]) if lines else ""


def _row(cells: Sequence[str]) -> str:
  safe = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
  return f"| {' | '.join(safe)} |"
