"""Do more wordings of the same tasks help with wordings that were never seen?

PAPER: Multitask Prompted Training Enables Zero-Shot Task Generalization, 2110.08207, section 6.2
  and figure 6.
SENTENCE: training on more prompts for each data set makes answers to new prompts better.
COMMAND: `python -m benchmarks.claims.prompt_variety --output
  benchmarks/results/claims_prompt_variety.json`
BUDGET: about 15 minutes of two cores; `--steps`, `--tuning` and `--seeds` make it more.

A small model reads notes, `first half of dabf>DAbf`, on twelve ways to write a word, with
gin/runs/claims/prompt_variety.gin. It is tuned with the same file on questions about all of them in
the first 1, 3 or 7 of ten wordings, for the same number of steps. Then it is asked about words
that were not trained on in the last three wordings, which no run has seen, and in the first, which
all have. The paper's model is asked other tasks in many wordings; this one the same tasks.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from benchmarks.claims import _prompted, _sets

RUN = "runs/claims/prompt_variety.gin"
SETS = [f"word_{name}" for name in _sets.CLUSTERS]
SEEN, HELD_OUT = ("p1",), ("p8", "p9", "p10")
NOTES, BASE = "note", "0"


def one(arm: str, seed: int, home: pathlib.Path, steps: int, tuning: int) -> _prompted.Row:
  """The model that reads notes, or one tuned on so many wordings."""
  if arm == BASE:
    return _prompted.train(
      RUN, home, RANDOM_SEED=seed, TRAIN_STEPS=steps, EVAL_PERIOD=steps, NAMED=(NOTES,)
    )
  return _prompted.train(
    RUN, home, RANDOM_SEED=seed, TRAIN_STEPS=tuning, EVAL_PERIOD=tuning, NAMED=(),
    TEMPLATES=int(arm), INITIAL_CHECKPOINT_PATH=str(home.with_name(f"{BASE}_{seed}")),
  )  # fmt: skip


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
  parser.add_argument("--tuning", type=int, default=200, help="steps of tuning")
  parser.add_argument("--wordings", nargs="+", default=["1", "3", "7"])
  arguments = parser.parse_args()

  def run(arm: str, seed: int, home: pathlib.Path) -> _prompted.Row:
    found = one(arm, seed, home, arguments.steps, arguments.tuning)
    found["cells"] = _prompted.ask(
      home, home / "asked", SETS=SETS, TEMPLATES=SEEN + HELD_OUT, LIMIT=arguments.limit,
      MAX_DECODE_LENGTH=8,
    )  # fmt: skip
    return found

  runs = _prompted.each(arguments, [BASE, *arguments.wordings], run)
  results = accuracies(runs)
  for name, points in results.items():
    print(name, {n: [round(value, 3) for value in values] for n, values in points.items()})
  _prompted.write(arguments.output, results, runs)
  if arguments.output:
    panels = {"": [_prompted.Curve(f"{name} wordings", p) for name, p in results.items()]}
    _prompted.plot(
      panels,
      arguments.output.with_suffix(".png"),
      "Twelve ways to write a word",
      "wordings of training",
    )


if __name__ == "__main__":
  main()
