"""Do more wordings of the same tasks help with wordings that were never seen?

PAPER: Multitask Prompted Training Enables Zero-Shot Task Generalization, 2110.08207, section 6.2
  and figure 6.
SENTENCE: training on more prompts for each data set makes answers to new prompts better.
COMMAND: `python -m benchmarks.claims.prompt_variety --output
  benchmarks/results/claims_prompt_variety.json`
BUDGET: about 20 minutes of two cores; `--steps`, `--wordings` and `--seeds` make it more.

Ten operations on a word of four letters. Each run is `mtm train` with
gin/runs/claims/prompt_variety.gin: as many steps of as many tokens, on the first 1, 2, 5 or 8 of
eleven wordings. `mtm eval` asks words that were not trained on, in the last three wordings, which
no run has seen, and in the first, which all have.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from benchmarks.claims import _prompted

RUN = "runs/claims/prompt_variety.gin"
SETS = ["word_letters", "word_capitals", "word_order", "word_halves"]
SEEN, HELD_OUT = ("told",), ("p8", "p9", "p10")


def one(arm: str, seed: int, home: pathlib.Path, steps: int, limit: int) -> _prompted.Row:
  """A model that has read so many wordings, and its answers: `{"cells": [...], ...}`."""
  found = _prompted.train(
    RUN, home, TEMPLATES=int(arm), RANDOM_SEED=seed, TRAIN_STEPS=steps, EVAL_PERIOD=steps
  )
  found["cells"] = _prompted.ask(
    home, home / "asked", SETS=SETS, TEMPLATES=SEEN + HELD_OUT, LIMIT=limit, MAX_DECODE_LENGTH=8
  )
  return found


def accuracies(runs: Sequence[_prompted.Row]) -> dict[str, dict[str, list[float]]]:
  """ "held out" and "seen" → number of wordings → the accuracy of every seed."""
  arms = list(dict.fromkeys(run["arm"] for run in runs))
  found: dict[str, dict[str, list[float]]] = {"held out": {}, "seen": {}}
  for name, wordings in (("held out", HELD_OUT), ("seen", SEEN)):
    for arm in arms:
      found[name][arm] = [
        sum(_prompted.mean(run["cells"], template=t) for t in wordings) / len(wordings)
        for run in runs if run["arm"] == arm
      ]  # fmt: skip
  return found


def main() -> None:
  """The command line."""
  parser = _prompted.parser(__doc__, steps=300, limit=20)
  parser.add_argument("--wordings", nargs="+", default=["1", "2", "5", "8"])
  arguments = parser.parse_args()

  def run(arm: str, seed: int, home: pathlib.Path) -> _prompted.Row:
    return one(arm, seed, home, arguments.steps, arguments.limit)

  runs = _prompted.each(arguments, arguments.wordings, run)
  results = accuracies(runs)
  for name, points in results.items():
    print(name, {n: [round(value, 3) for value in values] for n, values in points.items()})
  _prompted.write(arguments.output, results, runs)
  if arguments.output:
    panels = {"": [_prompted.Curve(f"{name} wordings", p) for name, p in results.items()]}
    _prompted.plot(
      panels,
      arguments.output.with_suffix(".png"),
      "Ten operations on words",
      "wordings of training",
    )


if __name__ == "__main__":
  main()
