"""An alarm for mixtures of experts whose tokens all go to a few experts, or to none.

It reads the metrics that `mtm.parts.experts.Experts` gives of each layer. A router that collapses
seldom comes back by itself, and the loss alone does not tell: it only falls more slowly.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

FILE = "alarms.jsonl"
ENTROPY, DROPPED, DEAD = "load_entropy", "dropped", "dead"


@dataclasses.dataclass(frozen=True)
class Collapse:
  """When to raise the alarm for a layer: any of three limits passed for `patience` steps on end.

  Attributes:
    entropy: the least entropy of the load, as a share of the largest possible one.
    dropped: the largest share of tokens without a place in the experts they wanted.
    dead: the largest share of experts that nobody wants.
    patience: steps on end.
    grace: first steps, in which routers find themselves.
  """

  entropy: float = 0.5
  dropped: float = 0.5
  dead: float = 0.5
  patience: int = 20
  grace: int = 20

  def wrong(self, layer: Mapping[str, float]) -> str | None:
    """What is wrong with a layer of these figures; None: nothing."""
    told = []
    if layer.get(ENTROPY, 1.0) < self.entropy:
      told.append(f"load entropy {layer[ENTROPY]:.2f} of 1")
    if layer.get(DROPPED, 0.0) > self.dropped:
      told.append(f"{layer[DROPPED]:.0%} of its tokens dropped")
    if layer.get(DEAD, 0.0) > self.dead:
      told.append(f"{layer[DEAD]:.0%} of its experts dead")
    return ", ".join(told) or None


@dataclasses.dataclass
class Watch:
  """An observer of `mtm.training.loop.Run`: tells of each layer's collapse once, when it is sure.

  What it tells goes to `note` and, one JSON object a line, into `MODEL_DIR/alarms.jsonl`. A layer
  that recovers is watched anew.

  Attributes:
    limits: when to raise the alarm.
    note: shows a line to the user.
    home: MODEL_DIR; None: no file, as on all hosts but the first.
  """

  limits: Collapse
  note: Callable[[str], Any]
  home: Path | None = None
  _bad: dict[str, int] = dataclasses.field(default_factory=dict)

  def __call__(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Looks at one step's metrics, see `mtm.training.loop.Run.observers`."""
    if step <= self.limits.grace:
      return
    for name, figures in layers(metrics):
      wrong = self.limits.wrong(figures)
      self._bad[name] = self._bad.get(name, 0) + 1 if wrong else 0
      if wrong and self._bad[name] == self.limits.patience:
        self._tell(step, name, wrong, figures)

  def _tell(self, step: int, name: str, wrong: str, figures: Mapping[str, float]) -> None:
    self.note(
      f"step {step}: the experts of {name} collapse ({wrong}): raise the router's balance loss or"
      " lower the learning rate, and see plots/experts.png"
    )
    if self.home is not None:
      with open(self.home / FILE, "a") as file:
        file.write(json.dumps({"step": step, "layer": name, "why": wrong, **figures}) + "\n")


def layers(metrics: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
  """The expert layers that metrics tell of: `block, layer n`, and its figures that are numbers."""
  for name in metrics:
    if not name.endswith(f"/{ENTROPY}"):
      continue
    place = name.removesuffix(f"/{ENTROPY}")
    every = {
      key: np.atleast_1d(metrics.get(f"{place}/{key}", ())) for key in (ENTROPY, DROPPED, DEAD)
    }
    for layer in range(len(every[ENTROPY])):
      figures = {key: float(values[layer]) for key, values in every.items() if layer < len(values)}
      yield f"{place.removesuffix('/channel')}, repetition {layer}", figures
