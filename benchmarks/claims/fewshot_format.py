"""Does accuracy grow with the number of exemplars after training on few-shot questions?

PAPER: Language Models are Few-Shot Learners, 2005.14165, section 1 and figure 1.2; trained on such
  questions as in MetaICL, 2110.15943, section 3.
SENTENCE: the more exemplars stand before a question, the better it is answered.
COMMAND: `python -m benchmarks.claims.fewshot_format --output
  benchmarks/results/claims_fewshot_format.json`
BUDGET: about 20 minutes of two cores; `--steps`, `--limit` and `--seeds` make it more.

A word that begins with a vowel is answered by one of six marks, `abd>!`, any other by a dash. Which
mark it is nobody tells: it is to be seen from the exemplars, those that have one. Each run is `mtm
train` with gin/runs/claims/fewshot_format.gin, on questions after 0, 1, 2, 4 and 8 exemplars, or
after none. `mtm eval` asks words that were not trained on. "possible" is what one would reach who
knows the rules and takes the likeliest answer of those that fit the exemplars.
"""

from __future__ import annotations

import collections
import pathlib
import statistics
from collections.abc import Iterable, Sequence

from benchmarks.claims import _prompted, _sets
from mtm.prompts import library
from mtm.prompts.shots import Shots

RUN = "runs/claims/fewshot_format.gin"
ASKED = (0, 1, 2, 4, 8)
ARMS = {"with exemplars": ASKED, "without": (0,)}  # arm → shots that it is trained on


def one(arm: str, seed: int, home: pathlib.Path, steps: int, limit: int) -> _prompted.Row:
  """A model of one arm, and its answers: `{"cells": [...], ...}`."""
  found = _prompted.train(
    RUN, home, SHOTS=ARMS[arm], RANDOM_SEED=seed, TRAIN_STEPS=steps, EVAL_PERIOD=steps
  )
  found["cells"] = _prompted.ask(
    home, home / "asked", SETS=["rules"], SHOTS=ASKED, LIMIT=limit, MAX_DECODE_LENGTH=2
  )
  return found


def guessed(exemplars: Sequence[tuple[str, str]], asked: str, answer: str) -> float:
  """The chance of the best guess of one who knows the operations.

  Args:
    exemplars: words and their answers.
    asked: another word.
    answer: what is right.
  """
  fitting = [
    mark for mark in _sets.MARKS.values()
    if all(_sets.marked(word, mark) == told for word, told in exemplars)
  ]  # fmt: skip
  votes = collections.Counter(_sets.marked(asked, mark) for mark in fitting)
  best = [guess for guess, count in votes.items() if count == max(votes.values())]
  return (answer in best) / len(best)


def possible(k: int, limit: int) -> float:
  """The mean of `guessed` over the questions that are asked with `k` exemplars."""
  found = []
  for data in library.listed(_sets):
    if data.cluster != "rules":
      continue
    template = data.templates[0]
    for example in data.held("test", limit):
      drawn = _first(k, Shots(k).exemplars(data, template, template.render(example)))
      pairs = [(text.removesuffix(">"), answer) for text, answer in drawn]
      found.append(guessed(pairs, example["word"], example["answer"]))
  return statistics.fmean(found)


def _first(k: int, exemplars: Iterable) -> list[tuple[str, str]]:
  return [(e.inputs, e.targets) for _, e in zip(range(k), exemplars, strict=False)]


def accuracies(runs: Sequence[_prompted.Row]) -> dict[str, dict[str, list[float]]]:
  """Arm → number of exemplars → the accuracy of every seed."""

  def by_k(run: _prompted.Row) -> dict[int, float]:
    return {k: _prompted.mean(run["cells"], k=k) for k in ASKED}

  return {arm: _prompted.gathered(runs, arm, by_k) for arm in ARMS}


def main() -> None:
  """The command line."""
  arguments = _prompted.parser(__doc__, steps=400, limit=60).parse_args()

  def run(arm: str, seed: int, home: pathlib.Path) -> _prompted.Row:
    return one(arm, seed, home, arguments.steps, arguments.limit)

  runs = _prompted.each(arguments, list(ARMS), run)
  results = accuracies(runs)
  best = {str(k): [possible(k, arguments.limit)] for k in ASKED}
  for arm, points in {**results, "possible": best}.items():
    print(arm, {k: [round(value, 3) for value in values] for k, values in points.items()})
  _prompted.write(arguments.output, {**results, "possible": best}, runs)
  if arguments.output:
    curves = [_prompted.Curve(f"trained {arm}", points) for arm, points in results.items()]
    panels = {"": [*curves, _prompted.Curve("possible", best, dashed=True)]}
    title = "Six marks, told by exemplars alone"
    _prompted.plot(panels, arguments.output.with_suffix(".png"), title, "exemplars")


if __name__ == "__main__":
  main()
