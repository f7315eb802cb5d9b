"""Do rationales let a small model answer questions of more steps than it was trained on?

PAPER: Chain-of-Thought Prompting, 2201.11903, section 5 and figure 8.
SENTENCE: with a chain of thought accuracy holds up on more steps than were seen; direct answers
  fail there.
COMMAND: `python -m benchmarks.claims.chain_of_thought --output
  benchmarks/results/claims_chain_of_thought.json`
BUDGET: about 20 minutes of two cores; `--steps`, `--limit` and `--seeds` make it more.

The paper prompts a model of 540 billion parameters; at this size rationales are trained. A question
is `k B e D`: of four people the two with capitals flip a coin that was heads up. Each run is
`mtm train` with gin/runs/claims/chain_of_thought.gin, on 2, 3, 5 and 8 people, with the coin's side
after each as the rationale, or with the answer alone: the same questions, steps and seeds. Then
`mtm eval` asks about 2 to 12 people; answers are written, and the final one is compared.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from benchmarks.claims import _prompted

RUN = "runs/claims/chain_of_thought.gin"
ARMS = {"rationale": "reasoned", "direct": "direct"}  # arm → its template
TRAINED, ASKED = (2, 3, 5, 8), (2, 3, 5, 8, 9, 10, 11, 12)


def one(arm: str, seed: int, home: pathlib.Path, steps: int, limit: int) -> _prompted.Row:
  """A model of one arm, and its answers: `{"cells": [...], ...}`."""
  template = (ARMS[arm],)
  found = _prompted.train(
    RUN, home, NAMED=template, RANDOM_SEED=seed, TRAIN_STEPS=steps, EVAL_PERIOD=steps
  )
  sets = [f"coin_flip_of_{people}" for people in ASKED]
  found["cells"] = _prompted.ask(
    home, home / "asked", SETS=sets, TEMPLATES=template, LIMIT=limit, MAX_DECODE_LENGTH=36
  )
  return found


def accuracies(runs: Sequence[_prompted.Row]) -> dict[str, dict[str, list[float]]]:
  """Arm → number of people → the accuracy of every seed."""

  def by_people(run: _prompted.Row) -> dict[int, float]:
    return {n: _prompted.mean(run["cells"], set=f"coin_flip_of_{n}") for n in ASKED}

  return {arm: _prompted.gathered(runs, arm, by_people) for arm in ARMS}


def main() -> None:
  """The command line."""
  arguments = _prompted.parser(__doc__, steps=500, limit=100).parse_args()

  def run(arm: str, seed: int, home: pathlib.Path) -> _prompted.Row:
    return one(arm, seed, home, arguments.steps, arguments.limit)

  runs = _prompted.each(arguments, list(ARMS), run)
  results = accuracies(runs)
  for arm, points in results.items():
    print(arm, {n: [round(value, 3) for value in values] for n, values in points.items()})
  _prompted.write(arguments.output, results, runs)
  if arguments.output:
    panels = {"": [_prompted.Curve(arm, points) for arm, points in results.items()]}
    title = f"Coin flips, trained on {', '.join(map(str, TRAINED))} people"
    _prompted.plot(panels, arguments.output.with_suffix(".png"), title, "people")


if __name__ == "__main__":
  main()
